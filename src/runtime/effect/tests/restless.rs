//! Work that is woken all the time: what the poll thread tells is heard nevertheless. Invariant 5 (ownership) hangs on it: a
//! revoke that isn't heard is drained too late.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_poll_thread_tells_is_heard_while_work_is_woken_all_the_time() {
    let mut scene = Scene::start(1, RuntimeOptions::default(), |_, _| Outcome::Done).await;
    scene.gate.send_replace(Gate::Restless);
    scene.send("0").await;
    scene.stands().await;
    scene.send("1").await;
    eventually("the second record takes effect", || scene.effects() == [1]).await;
    scene.gate.send_replace(Gate::Open);
    scene.reaches(2).await;
    assert_eq!(scene.effects(), [1, 0]);
    scene.leave().await;
}

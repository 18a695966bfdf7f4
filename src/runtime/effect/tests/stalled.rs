//! A partition that the client holds back behind everybody's back: the watchdog takes it up anew.

use super::*;
use crate::runtime::WatchdogOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_no_longer_fetched_though_there_is_more_is_taken_up_anew() {
    let watchdog =
        WatchdogOptions { stalled_after: Duration::from_millis(800), ..WatchdogOptions::default() };
    let options = RuntimeOptions { watchdog, ..RuntimeOptions::default() };
    let mut scene = Scene::start(1, options, |_, _| Outcome::Done).await;
    scene.send("0").await;
    scene.reaches(1).await;
    scene.desk.hush(0);
    // The client's word that it holds nothing back is from before; nobody counts on a record in between.
    eventually("the poll thread goes round", || !scene.desk.is_to_be_hushed()).await;
    scene.send("1").await;
    scene.reaches(2).await;
    let text = scene.metrics.text();
    let acted = text.lines().find(|line| line.contains("watchdog_total{kind=\"stalled_partition\""));
    assert!(acted.is_some_and(|line| !line.ends_with(" 0")), "{text}");
    scene.progress.wait_for(|now| now.partitions[&0].trouble.is_none()).await.expect("it is over");
    scene.leave().await;
}

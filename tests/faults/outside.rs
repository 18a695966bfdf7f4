//! The outside world that members act on: a server that takes effects and remembers who did what when. It lives in the
//! test's process, so what it saw outlives every member.
//!
//! A request is a line `member lane number attempt`, the answer a line `done`, `dead` or `retry MS`. The effect takes
//! place just before the answer is written; a caller that hung up before has no effect.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::task;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

/// Partitions of the source; a lane's is its number modulo this.
pub(crate) const PARTITIONS: u32 = 3;
/// Lanes from here on are always told to come back in an hour.
pub(crate) const FIRST_LATE_LANE: u32 = 100_000;
/// Lanes from here on are not answered while they are held.
pub(crate) const FIRST_HELD_LANE: u32 = 200_000;
/// Lanes from here on are always done at once.
pub(crate) const FIRST_PLAIN_LANE: u32 = 300_000;

/// How an attempt is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Dead,
    /// Not now, but after so many milliseconds.
    Retry(u64),
}

/// How the target is, beside what the seed says of each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// Every attempt takes this long.
    Slow(Duration),
    /// Every attempt is told to come back.
    Refusing,
    /// No attempt is answered, and none takes effect.
    Hanging,
}

/// An attempt that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    /// When it came and when it took effect, in milliseconds since the start of the run.
    pub(crate) from_ms: u64,
    pub(crate) at_ms: u64,
    pub(crate) member: u32,
    pub(crate) lane: u32,
    pub(crate) number: u32,
    pub(crate) attempt: u32,
    pub(crate) answer: Answer,
}

#[derive(Default)]
struct Seen {
    attempts: Vec<Attempt>,
    ended: BTreeMap<u32, BTreeSet<u32>>,
    /// Attempts that are being handled, by member.
    running: BTreeMap<u32, u32>,
    /// Of each partition, in order: the attempts that ended something new.
    fresh: BTreeMap<u32, Vec<Attempt>>,
}

/// The server; it ends with the runtime.
pub(crate) struct Outside {
    pub(crate) address: SocketAddr,
    pub(crate) started: Instant,
    seen: Arc<Mutex<Seen>>,
    mood: watch::Sender<Mood>,
    hold: watch::Sender<bool>,
}

impl Outside {
    pub(crate) async fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mood = watch::Sender::new(Mood::Fine);
        let started = Instant::now();
        let hold = watch::Sender::new(false);
        let (shared, moods, holds) = (Arc::clone(&seen), mood.subscribe(), hold.subscribe());
        task::spawn("outside", async move {
            while let Ok((connection, _)) = listener.accept().await {
                let serving =
                    serve(connection, seed, started, Arc::clone(&shared), moods.clone(), holds.clone());
                task::spawn("a caller", serving);
            }
        });
        Self { address, started, seen, mood, hold }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Holds the lanes that can be held, or lets them go.
    pub(crate) fn hold(&self, held: bool) {
        self.hold.send_replace(held);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.started)
    }

    /// Everything that was answered, in the order in which it took effect.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.seen.lock().expect("no panic").attempts.clone()
    }

    /// How many tasks ended, each counted once.
    pub(crate) fn ended(&self) -> usize {
        self.seen.lock().expect("no panic").ended.values().map(BTreeSet::len).sum()
    }

    /// How many attempts of `member` are being handled.
    pub(crate) fn running(&self, member: u32) -> u32 {
        self.seen.lock().expect("no panic").running.get(&member).copied().unwrap_or(0)
    }

    /// How long after `since_ms` every partition had gone on with something new, but for what `without` says: a member, and
    /// until when it had begun that; `None` while one hasn't.
    pub(crate) fn resumed_after(&self, since_ms: u64, without: Option<(u32, u64)>) -> Option<u64> {
        let seen = self.seen.lock().expect("no panic");
        let first = |partition: u32| {
            let fresh = seen.fresh.get(&partition)?;
            let mut later = fresh[fresh.partition_point(|ended| ended.at_ms < since_ms)..].iter();
            let counts = |ended: &&Attempt| {
                without.is_none_or(|(member, until)| ended.member != member || ended.from_ms >= until)
            };
            later.find(counts).map(|ended| ended.at_ms)
        };
        (0..PARTITIONS).map(first).try_fold(0, |latest, at| Some(latest.max(at?))).map(|at| at - since_ms)
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).expect("a short run")
}

/// What the seed says of an attempt: how long it takes, and how it ends.
fn manner(seed: u64, lane: u32, number: u32, attempt: u32) -> (Duration, Answer) {
    let draw = |what: &str, attempt: u32| {
        let mut hasher = DefaultHasher::new();
        (seed, what, lane, number, attempt).hash(&mut hasher);
        hasher.finish()
    };
    let takes = match draw("takes", attempt) % 100 {
        0..5 => 50 + draw("long", attempt) % 250,
        _ => draw("short", attempt) % 4,
    };
    let answer = match (is_poison(seed, lane, number), draw("ends", attempt) % 100) {
        _ if lane >= FIRST_HELD_LANE => Answer::Done,
        _ if lane >= FIRST_LATE_LANE => Answer::Retry(3_600_000),
        (true, _) if attempt == 1 => Answer::Retry(200),
        (true, _) => Answer::Dead,
        (false, 0..8) => Answer::Retry(20),
        (false, 8..13) => Answer::Retry(150 + draw("later", attempt) % 600),
        (false, _) => Answer::Done,
    };
    (Duration::from_millis(takes), answer)
}

/// Whether a task can only be dead-lettered.
pub(crate) fn is_poison(seed: u64, lane: u32, number: u32) -> bool {
    let mut hasher = DefaultHasher::new();
    (seed, "poison", lane, number).hash(&mut hasher);
    hasher.finish().is_multiple_of(100)
}

fn is_held(lane: u32) -> bool {
    (FIRST_HELD_LANE..FIRST_PLAIN_LANE).contains(&lane)
}

async fn serve(
    connection: TcpStream,
    seed: u64,
    started: Instant,
    seen: Arc<Mutex<Seen>>,
    mut moods: watch::Receiver<Mood>,
    mut holds: watch::Receiver<bool>,
) {
    let _ = connection.set_nodelay(true);
    let (reads, mut writes) = connection.into_split();
    let mut lines = BufReader::new(reads).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let numbers: Vec<u32> = line.split(' ').filter_map(|part| part.parse().ok()).collect();
        let [member, lane, number, attempt] = numbers[..] else { return };
        let from_ms = millis(started);
        let (takes, answer) = manner(seed, lane, number, attempt);
        *seen.lock().expect("no panic").running.entry(member).or_default() += 1;
        let mood = *moods.borrow_and_update();
        let ending = async {
            match mood {
                Mood::Fine if is_held(lane) && *holds.borrow_and_update() => {
                    let _ = holds.wait_for(|held| !held).await;
                    return None;
                }
                Mood::Fine => tokio::time::sleep(takes).await,
                Mood::Slow(delay) => tokio::time::sleep(delay).await,
                Mood::Refusing => return Some(Answer::Retry(300)),
                Mood::Hanging => {
                    let _ = moods.wait_for(|mood| *mood != Mood::Hanging).await;
                    return None;
                }
            }
            Some(answer)
        };
        // A caller that hangs up meanwhile sees no effect; it never sends a second line before the answer.
        let answer = tokio::select! {
            answer = ending => answer,
            _ = lines.next_line() => None,
        };
        let Some(answer) = note(&seen, started, [member, lane, number, attempt], from_ms, answer) else {
            return;
        };
        let text = match answer {
            Answer::Done => "done\n".to_owned(),
            Answer::Dead => "dead\n".to_owned(),
            Answer::Retry(after) => format!("retry {after}\n"),
        };
        if writes.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The effect itself: it is in the books from here on.
fn note(
    seen: &Mutex<Seen>,
    started: Instant,
    [member, lane, number, attempt]: [u32; 4],
    from_ms: u64,
    answer: Option<Answer>,
) -> Option<Answer> {
    let mut seen = seen.lock().expect("no panic");
    *seen.running.entry(member).or_default() -= 1;
    let answer = answer?;
    let at_ms = millis(started);
    let ends = matches!(answer, Answer::Done | Answer::Dead);
    let is_fresh = ends && seen.ended.entry(lane).or_default().insert(number);
    let attempt = Attempt { from_ms, at_ms, member, lane, number, attempt, answer };
    if is_fresh {
        seen.fresh.entry(lane % PARTITIONS).or_default().push(attempt);
    }
    seen.attempts.push(attempt);
    Some(answer)
}

/// The lane and number that a record names.
pub(crate) fn task_name(payload: &[u8]) -> Option<(u32, u32)> {
    let (lane, number) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    Some((lane.parse().ok()?, number.parse().ok()?))
}

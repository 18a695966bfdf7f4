//! `orderflow demo`: everything in one process, nothing installed, shown as it happens.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::screen::Screen;
use super::exit::{Exit, Fault};
use super::output;
use crate::embedded::demo::audit::{Audit, Published};
use crate::embedded::demo::calm::Remaining;
use crate::embedded::demo::{Demo, DemoError, DemoOptions, RunError};
use crate::shutdown;
use crate::telemetry::logs::{self, LogOptions};

mod screen;
mod words;

/// Where the API listens unless told otherwise, if that port is free.
const USUAL_PORT: u16 = 8080;
/// Orders unless told otherwise.
const USUAL_ORDERS: u64 = 200;
/// Events a second unless told otherwise: slow enough to be watched.
const WATCHABLE_RATE: f64 = 40.0;
/// How long the third partner refuses connections at the start.
const PARTNER_DOWN_FOR: Duration = Duration::from_secs(4);
/// Without any progress for so long, waiting for the end makes no sense.
const PATIENCE: Duration = Duration::from_secs(60);
const REDRAW_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow demo                                       watch, then look around with curl\n  \
                  orderflow demo --once --orders 500 --seed 7 --json   run to the end, print the ledger"
)]
pub(super) struct Args {
    /// How many orders
    #[arg(long, value_name = "N", default_value_t = USUAL_ORDERS)]
    orders: u64,
    /// Events a second [default: 40; with --once as fast as the stages follow]
    #[arg(long, value_name = "R", value_parser = positive)]
    rate: Option<f64>,
    /// Run the orders to their end, print the ledger and end; exit code 0 only if it balances
    #[arg(long)]
    once: bool,
    /// The same seed gives the same orders and the same failures
    #[arg(long, value_name = "S", default_value_t = 7)]
    seed: u64,
    /// Print the ledger as JSON and nothing else
    #[arg(long)]
    json: bool,
    /// Where the API listens on loopback; 0 takes a free port [default: 8080 if it is free; with --once a free one]
    #[arg(long, value_name = "P")]
    port: Option<u16>,
}

fn positive(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("must be above zero".to_owned()) }
}

/// What a run to the end led to.
struct Ended {
    audit: Audit,
    remaining: Remaining,
}

pub(super) async fn run(args: Args) -> Result<Exit, Fault> {
    // Failures are part of the show, so only what isn't is logged; so are brokers that go at the end.
    let log = LogOptions { level: "error".to_owned(), ..LogOptions::default() };
    logs::start(&log).map_err(|error| Fault::internal(error.to_string()))?;
    let signals = shutdown::on_signals().map_err(|error| Fault::internal(error.to_string()))?;
    // Also cancelled when a part of the demo fails.
    let quit = signals.child_token();
    let screen = Screen::new(args.json);

    let demo = Demo::start(options(&args), quit.clone()).await.map_err(start_fault)?;
    screen.say(&words::intro(&demo, &args.traffic()))?;
    let ended = watch(&demo, &screen, &quit).await;
    let told = match &ended {
        Ok(ended) if !quit.is_cancelled() => tell(ended, &args, &screen),
        Ok(_) if args.once => Err(Fault::failures("interrupted before the end, so there is no ledger")),
        Ok(_) => Ok(Exit::Failures),
        Err(error) => Err(Fault::failures(error.to_string())),
    };
    if told.is_ok() && !args.once && !quit.is_cancelled() {
        screen.say(&words::look_further(&demo))?;
        quit.cancelled().await;
    }
    screen.close();
    let failures = demo.stop().await;
    if let Some(first) = failures.first() {
        return Err(Fault::failures(format!("a part of the demo failed: {first}")));
    }
    match told? {
        exit if args.once => Ok(exit),
        // Being interrupted is how it ends.
        _ => Ok(Exit::Fine),
    }
}

impl Args {
    fn traffic(&self) -> String {
        let rate = match self.rate() {
            Some(rate) => format!("{rate} events a second"),
            None => "as fast as the stages follow".to_owned(),
        };
        format!("{} orders by seed {}, {rate}", self.orders, self.seed)
    }

    fn rate(&self) -> Option<f64> {
        self.rate.or((!self.once).then_some(WATCHABLE_RATE))
    }
}

fn options(args: &Args) -> DemoOptions {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT));
    let port = match args.port {
        Some(port) => port,
        None if !args.once && std::net::TcpListener::bind(usual).is_ok() => USUAL_PORT,
        None => 0,
    };
    DemoOptions {
        orders: args.orders,
        rate: args.rate(),
        seed: args.seed,
        http: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        partner_down_for: PARTNER_DOWN_FOR,
    }
}

fn start_fault(error: DemoError) -> Fault {
    Fault::unavailable(format!("the demo doesn't start: {error}"))
}

/// Publishes, shows what happens, waits for the end and writes the ledger.
async fn watch(demo: &Demo, screen: &Screen, quit: &CancellationToken) -> Result<Ended, RunError> {
    let (lines_in, mut lines) = mpsc::channel(256);
    if screen.tells_stories() {
        demo.tell_story(lines_in, quit.clone());
    }
    let work = async {
        let published = demo.publish(quit).await?;
        let remaining = demo.settle(PATIENCE, quit).await?;
        Ok::<(Published, Remaining), RunError>((published, remaining))
    };
    tokio::pin!(work);
    let mut redraws = interval(REDRAW_EVERY);
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (published, remaining) = loop {
        tokio::select! {
            ended = &mut work => break ended?,
            Some(line) = lines.recv() => screen.story(&line),
            _ = redraws.tick() => screen.progress(&demo.progress().await, demo.orders()),
        }
    };
    screen.progress(&demo.progress().await, demo.orders());
    while let Ok(Some(line)) = tokio::time::timeout(REDRAW_EVERY * 2, lines.recv()).await {
        screen.story(&line);
    }
    Ok(Ended { audit: demo.audit(&published).await?, remaining })
}

/// Prints the ledger, and on stderr what is wrong with it.
fn tell(ended: &Ended, args: &Args, screen: &Screen) -> Result<Exit, Fault> {
    let Ended { audit, remaining } = ended;
    if args.json {
        output::json(&audit.ledger)?;
    } else {
        screen.say(&words::ledger(&audit.ledger))?;
    }
    let mut complaints = audit.ledger.complaints();
    if !remaining.is_none() {
        complaints.push(format!("work was left when nothing moved any more: {remaining:?}"));
    }
    for complaint in complaints.iter().chain(&audit.findings) {
        output::complain(complaint);
    }
    Ok(if complaints.is_empty() { Exit::Fine } else { Exit::Failures })
}

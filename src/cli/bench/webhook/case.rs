//! What is measured: how many endpoints an event goes to, how many there are, at which rate events come, and how one of
//! the receivers behaves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Deliveries of a case that runs as fast as it can.
const DELIVERIES: u64 = 60_000;
/// The same with `--full`.
const FULL_DELIVERIES: u64 = 300_000;
/// Events per second of the cases whose latency counts.
pub(super) const STEADY: u64 = 200;
/// How long such a case lasts.
const STEADY_FOR: Duration = Duration::from_secs(10);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum System {
    /// The product: webhook and attempts stages, from the topic on, attempts recorded.
    #[serde(rename = "orderflow")]
    Orderflow,
    /// A loop of requests over kept connections: no Kafka, no order, no records.
    #[serde(rename = "bare-http-client")]
    BareClient,
}

impl System {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Orderflow => "orderflow",
            Self::BareClient => "bare-http-client",
        }
    }
}

/// How a receiver treats a request; also the first part of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Mood {
    /// Answers 204 at once.
    Accepts,
    /// Never answers.
    Hangs,
    /// Answers 200, and then a byte a second.
    Drips,
    /// Answers 500.
    Fails,
}

impl Mood {
    const ALL: [Self; 4] = [Self::Accepts, Self::Hangs, Self::Drips, Self::Fails];

    /// As in the path.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accepts => "accepts",
            Self::Hangs => "hangs",
            Self::Drips => "drips",
            Self::Fails => "fails",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mood| mood.as_str() == text)
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    /// All endpoints.
    pub(super) endpoints: u64,
    /// Endpoints that each event goes to: those of one tenant.
    pub(super) fan_out: u64,
    pub(super) events: u64,
    /// Events per second; none is all at once, before the clock starts.
    pub(super) rate: Option<u64>,
    /// How the first endpoint behaves.
    pub(super) first: Mood,
    pub(super) systems: Vec<System>,
}

impl Case {
    /// Deliveries to endpoints that accept.
    pub(super) fn deliveries(&self) -> u64 {
        let healthy = self.fan_out - u64::from(self.first != Mood::Accepts);
        self.events * healthy
    }

    /// The same at another rate.
    pub(super) fn at_rate(mut self, rate: u64) -> Self {
        self.events = rate.max(1) * STEADY_FOR.as_secs() / 2;
        self.rate = Some(rate.max(1));
        self
    }

    /// How the endpoint with this number behaves.
    pub(super) fn mood(&self, endpoint: u64) -> Mood {
        if endpoint == 0 { self.first } else { Mood::Accepts }
    }
}

/// The cases, in order. `half-of-capacity` takes its rate from what `fanout-1` reached.
pub(super) fn cases(full: bool) -> Vec<Case> {
    let deliveries = if full { FULL_DELIVERIES } else { DELIVERIES };
    let fast = |name: &str, endpoints: u64, fan_out: u64, systems: &[System]| Case {
        name: name.to_owned(),
        endpoints,
        fan_out,
        events: deliveries / fan_out,
        rate: None,
        first: Mood::Accepts,
        systems: systems.to_vec(),
    };
    let both = [System::BareClient, System::Orderflow];
    let ours = [System::Orderflow];
    let steady = |name: &str, endpoints: u64, first: Mood| Case {
        events: STEADY * STEADY_FOR.as_secs(),
        rate: Some(STEADY),
        first,
        ..fast(name, endpoints, endpoints, &ours)
    };
    vec![
        fast("fanout-1", 1, 1, &both),
        fast("fanout-10", 10, 10, &both),
        fast("endpoints-100", 100, 1, &both),
        fast("endpoints-10000", 10_000, 1, &both),
        steady("steady-200", 1, Mood::Accepts),
        steady("half-of-capacity", 1, Mood::Accepts),
        steady("ten-healthy", 10, Mood::Accepts),
        steady("one-of-ten-hangs", 10, Mood::Hangs),
        steady("one-of-ten-drips", 10, Mood::Drips),
        steady("one-of-ten-fails", 10, Mood::Fails),
    ]
}

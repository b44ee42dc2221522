//! The highest rate of messages that the whole cluster sustains: accepted, sent, and every status told to the business, while
//! owners are killed. Measures and counts; of times it judges nothing.

mod judge;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use self::judge::{Counts, Halving, Queue, Times};
use self::report::{Attempt, Look, Outcome, PerMessage};
use super::args::DevArgs;
use super::cluster::{Cluster, Plan};
use super::cost::{Lane, Meter};
use super::drill;
use super::simulator::{self, lock};
use super::traffic::{Load, Sent, Traffic, log_in};
use crate::exit::Exit;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// What an upgraded number may send in a second, by the upstream's documents.
const NUMBER_RATE: u32 = 1000;
/// Port of the business, before the offset.
const BUSINESS_PORT: u16 = 6201;
/// Length of one run of the search.
const TRY_SECONDS: u64 = 60;
/// A queue of so many seconds' worth of messages will not get shorter any more: a search goes on with a lower rate.
const HOPELESS_S: u64 = 15;
/// Runs at full length; each after the first is slower by a tenth.
const FULL_RUNS_MAX: u32 = 3;
/// After the last request, until everything that is on its way has arrived: as long as something moves.
const STILL_AFTER: Duration = Duration::from_secs(20);
const SETTLE_WITHIN: Duration = Duration::from_secs(600);
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);
/// Between two lines for whoever waits, in seconds.
const TOLD_EVERY_S: u64 = 10;

/// One standby more than shards, the pace of an upgraded number, and every status told.
pub fn arrange(plan: &mut Plan, args: &DevArgs) {
    plan.coreapps = plan.coreapps.max(args.shards + 1);
    // The plan allows four times its rate, for all shards together. Customers do not spread evenly over shards, and a new owner has
    // something to catch up with: each shard may use twice its part, and the simulator keeps the number's limit.
    plan.rate = NUMBER_RATE / 2;
    // Usually a status that comes behind a higher one is not told. Here each is counted: what is not told was lost.
    plan.client = "late_statuses = \"tell\"\n";
}

/// Runs at `--rate`, or searches for the highest rate up to it; prints a table, and JSON as the last line.
///
/// # Errors
/// When the cluster does not come up.
pub async fn run(
    cluster: &Cluster,
    args: &DevArgs,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    cluster.refuse_leftovers().await?;
    let client = OutsideClient::new(Duration::from_secs(2), 4);
    let token = log_in(&client, &cluster.plan.webapp_url(1)).await?;
    if args.shards > 1 {
        drill::set_shards(cluster, &client, &token, args.shards).await?;
    }
    lock(&cluster.simulator.knobs).rate_per_second = u64::from(NUMBER_RATE);
    let bench = Bench {
        cluster,
        args,
        client,
        token,
        load: Lane::new("load")?,
        business: Lane::new("business")?,
        stop,
    };
    bench.open_business().await?;
    let (search, last) = bench.measure().await?;
    report::print(&last);
    let passed = last.held;
    let outcome = Outcome {
        shards: args.shards,
        coreapps: cluster.plan.coreapps,
        webapps: 2,
        database: match (&cluster.server, cluster.db.embedded()) {
            (Some(_), _) => "mariadb",
            (None, true) => "embedded",
            (None, false) => "a server of its own",
        },
        search: &search,
        last: &last,
        passed,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if passed { Exit::Ok } else { Exit::Refuted })
}

struct Bench<'a> {
    cluster: &'a Cluster,
    args: &'a DevArgs,
    client: OutsideClient,
    token: String,
    load: Lane,
    business: Lane,
    stop: &'a CancellationToken,
}

impl Bench<'_> {
    fn business_at(&self) -> SocketAddr {
        let plan = &self.cluster.plan;
        SocketAddr::new(plan.center(), BUSINESS_PORT + plan.offset)
    }

    async fn open_business(&self) -> anyhow::Result<()> {
        let business = simulator::receive(
            self.cluster.simulator.clone(),
            self.business_at(),
            self.stop.clone(),
        );
        Ok(self.business.handle().spawn(business).await??)
    }

    /// The runs of the search, and the last one at full length.
    async fn measure(&self) -> anyhow::Result<(Vec<Attempt>, Attempt)> {
        let mut search = Vec::new();
        let mut rate = self.args.rate;
        if self.args.search {
            let mut halving = Halving::new(rate);
            while let Some(next) = halving.next() {
                let seconds = TRY_SECONDS.min(self.args.seconds);
                let run = self.attempt(next, seconds).await?;
                report::print(&run);
                halving.note(next, run.held);
                search.push(run);
            }
            rate = halving.held();
            anyhow::ensure!(rate > 0, "no rate was held; the tables above say why");
        }
        let mut last = self.attempt(rate, self.args.seconds).await?;
        for _ in 1..FULL_RUNS_MAX {
            if last.held || !self.args.search {
                break;
            }
            rate -= rate.div_ceil(10);
            search.push(last);
            last = self.attempt(rate, self.args.seconds).await?;
        }
        Ok((search, last))
    }

    /// One rate, for so many seconds.
    async fn attempt(&self, rate: u32, seconds: u64) -> anyhow::Result<Attempt> {
        let cluster = self.cluster;
        cluster.wait_healthy(HEALTHY_WITHIN).await?;
        let business = format!("http://{}/business", self.business_at());
        drill::ready_for(cluster, &self.client, &business).await?;
        let ledger = &cluster.simulator.ledger;
        ledger.begin(usize::try_from(u64::from(rate) * (seconds + 30)).unwrap_or(usize::MAX));
        let before = self.counters().await?;
        let (began, traffic) = (clock::now(), self.start(rate));
        let mut meter = Meter::default();
        let (mut looks, mut kills) = (Vec::new(), 0);
        let mut look = Look::default();
        for second in 1..=seconds {
            clock::sleep_until(began + Duration::from_secs(second)).await;
            anyhow::ensure!(!self.stop.is_cancelled(), "stopped");
            meter.look(cluster).await;
            if self.kill_now(second, seconds) {
                kills += u32::from(self.kill(kills).await);
            }
            look = self.look(&traffic, (rate, second, seconds, kills));
            looks.push(look.queue());
            if second.is_multiple_of(TOLD_EVERY_S) {
                look.print(&meter.cores());
            }
            let hopeless = look.queue() > u64::from(rate) * HOPELESS_S;
            if hopeless && self.args.search {
                eprintln!("{second} s: the queue is hopelessly long; this run ends");
                break;
            }
        }
        meter.look(cluster).await;
        let (took, cores) = (clock::now().since(began), meter.cores());
        let after = self.counters().await?;
        let sent = traffic.finish().await;
        self.settle(&sent).await;
        let lives = ledger.end();
        let mut counts = Counts::of(&sent, &lives);
        let report = cluster.simulator.report();
        counts.double_primary = report.double_primary;
        report.offences.iter().for_each(|told| eprintln!("{told}"));
        let queue = Queue::of(&looks, rate);
        let whole_run = looks.len() as u64 == seconds;
        Ok(Attempt {
            rate,
            seconds: looks.len() as u64,
            kills,
            held: whole_run && queue.flat && counts.good(),
            queue,
            counts,
            times: Times::of(&sent, &lives),
            per_message: PerMessage::of(look.whole, &before, &after, &cores, took),
            limit: cores.limit(),
            cores: cores.by_kind,
            cores_of_others: cores.others,
        })
    }

    fn start(&self, rate: u32) -> Traffic {
        let plan = &self.cluster.plan;
        let _lane = self.load.handle().enter();
        Traffic::start(Load {
            urls: vec![plan.webapp_url(1), plan.webapp_url(2)],
            token: self.token.clone(),
            rate,
            fail_over: false,
            text: "Your parcel is on its way and will be with you today between ten and twelve. Message".into(),
        })
    }

    fn look(&self, traffic: &Traffic, of: (u32, u64, u64, u32)) -> Look {
        // First what is through: whatever comes in between counts as waiting, not as less than nothing.
        let through = self.cluster.simulator.ledger.progress();
        let progress = traffic.progress();
        let (rate, second, seconds, kills) = of;
        Look {
            second,
            of: seconds,
            rate,
            due: u64::from(rate) * second,
            started: progress.started,
            open: progress.open,
            accepted: progress.accepted,
            taken: through.taken,
            whole: through.whole,
            kills,
        }
    }

    /// The first one after half of the time between two, the last one early enough to see what it does.
    fn kill_now(&self, second: u64, seconds: u64) -> bool {
        let every = self.args.kill_every;
        let last = seconds.saturating_sub(5.min(every / 2));
        every > 0 && second <= last && second % every == every.div_ceil(2) % every
    }

    /// Kills the owner of the next shard in turn. False: it has none at this moment.
    async fn kill(&self, kills: u32) -> bool {
        let shard = u16::try_from(kills).unwrap_or(0) % self.args.shards;
        let Some(owner) = self.cluster.owner_of(shard).await else {
            eprintln!("shard {shard} has no owner to kill");
            return false;
        };
        self.cluster.process(&owner).signal(Signal::SIGKILL);
        true
    }

    async fn counters(&self) -> anyhow::Result<std::collections::BTreeMap<String, u64>> {
        match &self.cluster.server {
            Some(server) => server.counters().await.context("the counters of MariaDB"),
            None => Ok(Default::default()),
        }
    }

    /// Waits until all that was accepted is through, or nothing moves any more.
    async fn settle(&self, sent: &[Sent]) {
        let ledger = &self.cluster.simulator.ledger;
        let accepted = || sent.iter().filter(|sent| sent.accepted());
        let (count, until) = (accepted().count() as u64, clock::now() + SETTLE_WITHIN);
        let (mut before, mut moved_at) = (ledger.progress(), clock::now());
        while clock::now() < until && clock::now().since(moved_at) < STILL_AFTER {
            let progress = ledger.progress();
            let ids = accepted().filter_map(|sent| sent.id.as_deref());
            if progress.whole >= count && ledger.all_whole(ids) {
                return;
            }
            if progress != before {
                (before, moved_at) = (progress, clock::now());
            }
            clock::sleep(Duration::from_millis(200)).await;
        }
    }
}

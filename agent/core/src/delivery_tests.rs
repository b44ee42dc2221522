//! Goal: whatever is slow, fails or dies, each customer's webhooks arrive in order, nobody waits for somebody else, and no more are
//! on their way than allowed. Method: the owner's loop over a small store and a receiver, seed by seed: rows come in, reads and
//! records take their time, answers come in any order, owners die. The receiver's diary is the judge, and a loop without
//! lines must be found out by it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const STEP: Duration = Duration::from_secs(3);
const CAP: Duration = Duration::from_secs(900);

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// A row of the store.
#[derive(Clone, Copy)]
struct Stored {
    customer: u32,
    attempts: u32,
    due: Instant,
    stored: Instant,
}

/// What is read or recorded, and until when.
enum Task {
    Look(Look, Vec<(i64, Stored)>, Option<i64>, bool),
    Record(Results),
}

struct World {
    dice: Dice,
    now: Instant,
    store: BTreeMap<i64, Stored>,
    next_id: i64,
    /// Rows that ever were.
    stored: usize,
    lines: Lines<()>,
    task: Option<(Instant, Task)>,
    calls: Vec<(Instant, Row<()>)>,
    at_once: usize,
    /// Customers whose requests are refused for now.
    refused: BTreeSet<u32>,
    /// What arrived for the first time, by customer, and all that did.
    diary: BTreeMap<u32, Vec<i64>>,
    seen: BTreeSet<i64>,
    repeats: usize,
    park_after: Duration,
    parked: BTreeSet<i64>,
    page_len: usize,
    /// Every customer is one of his own for each row: the loop of before.
    without_lines: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let at_once = [1, 6, 12, 18, 24][usize::try_from(dice.roll(5)).expect("small")];
        Self {
            now: Instant::from_millis(1000),
            store: BTreeMap::new(),
            next_id: 1,
            stored: 0,
            lines: Lines::default(),
            task: None,
            calls: Vec::new(),
            at_once,
            refused: BTreeSet::new(),
            diary: BTreeMap::new(),
            seen: BTreeSet::new(),
            repeats: 0,
            park_after: Duration::MAX,
            parked: BTreeSet::new(),
            page_len: 8 + usize::try_from(dice.roll(60)).expect("small"),
            without_lines: false,
            dice,
        }
    }

    fn later(&mut self, ms: u64) -> Instant {
        self.now + Duration::from_millis(self.dice.roll(ms))
    }

    fn insert(&mut self, customer: u32) {
        let row = Stored {
            customer,
            attempts: 0,
            due: self.now,
            stored: self.now,
        };
        self.store.insert(self.next_id, row);
        self.stored += 1;
        self.next_id += 1 + i64::try_from(self.dice.roll(3)).expect("small");
    }

    fn row(&self, (id, stored): (i64, Stored)) -> Row<()> {
        Row {
            id,
            customer: match self.without_lines {
                true => u32::try_from(id).expect("small"),
                false => stored.customer,
            },
            attempts: stored.attempts,
            wait: stored.due.since(self.now),
            age: self.now.since(stored.stored),
            body: (),
            bytes: 100,
        }
    }

    /// What the store says at this moment; it arrives later.
    fn look(&mut self, look: Look) {
        let (rows, last, full) = match &look {
            Look::Ahead { after } => {
                let rows = self.store.range(after + 1..).take(self.page_len);
                let rows: Vec<(i64, Stored)> = rows.map(|(id, row)| (*id, *row)).collect();
                let last = rows.last().map(|(id, _)| *id);
                let full = rows.len() == self.page_len;
                (rows, last, full)
            }
            Look::Customers(asked) => {
                assert!(asked.len() <= ASKED_MAX);
                let mut rows = Vec::new();
                for (customer, after) in asked {
                    let of = self.store.range(after + 1..).map(|(id, row)| (*id, *row));
                    let of = of.filter(|row| self.row(*row).customer == *customer);
                    rows.extend(of.take(LINE_LEN_MAX));
                }
                (rows, None, false)
            }
        };
        let at = self.later(20);
        self.task = Some((at, Task::Look(look, rows, last, full)));
    }

    fn end_task(&mut self) {
        let Some((_, task)) = self.task.take_if(|(at, _)| *at <= self.now) else {
            return;
        };
        let lost = self.dice.roll(10) == 0;
        match task {
            Task::Look(look, ..) if lost => self.lines.unread(look),
            Task::Look(look, rows, last, full) => {
                let rows: Vec<Row<()>> = rows.into_iter().map(|row| self.row(row)).collect();
                match look {
                    Look::Ahead { .. } => {
                        self.lines.read_ahead(self.now, Page { rows, last, full });
                    }
                    Look::Customers(asked) => self.lines.read_customers(self.now, &asked, rows),
                }
            }
            Task::Record(results) => {
                // The answer of the store may be lost, and the commit with it.
                if !lost || self.dice.roll(2) == 0 {
                    let parked = results.parked.iter().map(|(id, _)| id);
                    for id in results.delivered.iter().chain(parked) {
                        self.store.remove(id);
                    }
                    for (id, wait_ms) in &results.put_off {
                        let due = self.now + Duration::from_millis(*wait_ms);
                        if let Some(row) = self.store.get_mut(id) {
                            (row.attempts, row.due) = (row.attempts + 1, due);
                        }
                    }
                }
                match lost {
                    true => self.lines.unrecorded(results),
                    false => self.lines.recorded(&results),
                }
            }
        }
    }

    fn receive(&mut self, row: &Row<()>) {
        let customer = self.store.get(&row.id).map(|stored| stored.customer);
        if !self.seen.insert(row.id) {
            self.repeats += 1;
        } else if let Some(customer) = customer {
            self.diary.entry(customer).or_default().push(row.id);
        }
    }

    fn answers(&mut self) {
        let now = self.now;
        let (done, on): (Vec<_>, Vec<_>) = self.calls.drain(..).partition(|(at, _)| *at <= now);
        self.calls = on;
        for (_, row) in done {
            let whose = self.store.get(&row.id).map(|stored| stored.customer);
            let refused = whose.is_some_and(|customer| self.refused.contains(&customer));
            if self.dice.roll(40) == 0 {
                self.lines.unreached(row);
            } else if refused {
                self.fail(&row);
            } else {
                self.receive(&row);
                if self.dice.roll(30) == 0 {
                    // It was taken, and the answer said something else.
                    self.fail(&row);
                } else {
                    self.lines.delivered(row.id, row.customer);
                }
            }
        }
    }

    fn fail(&mut self, row: &Row<()>) {
        if row.age > self.park_after {
            self.lines.park(row.id, row.customer, "refused".into());
            self.parked.insert(row.id);
        } else {
            self.lines.failed(self.now, row, (STEP, CAP));
        }
    }

    /// One round of the owner's loop, with whatever else happens meanwhile.
    fn round(&mut self) {
        let mut step = 1 + self.dice.roll(15);
        if self.calls.is_empty() && self.task.is_none() && self.dice.roll(4) == 0 {
            step = 2000;
        }
        self.now = self.now + Duration::from_millis(step);
        self.answers();
        self.end_task();
        if self.dice.roll(3) == 0 {
            self.lines.news();
        }
        while let Some(row) = self.lines.start(self.now, self.at_once, self.at_once) {
            let at = match self.dice.roll(20) {
                0 => self.later(3000),
                _ => self.later(40),
            };
            self.calls.push((at, row));
        }
        self.check();
        if self.task.is_none() {
            if !self.lines.results().is_empty() && self.dice.roll(2) == 0 {
                let results = self.lines.take_results();
                self.task = Some((self.later(20), Task::Record(results)));
            } else if let Some(look) = self.lines.wants(self.now, self.at_once) {
                self.look(look);
            }
        }
    }

    /// The next owner knows what is stored, and nothing else.
    fn kill(&mut self) {
        for (_, row) in std::mem::take(&mut self.calls) {
            // It may have arrived all the same.
            if self.dice.roll(2) == 0 {
                self.receive(&row);
            }
        }
        (self.task, self.lines) = (None, Lines::default());
    }

    fn check(&self) {
        assert!(self.calls.len() <= self.at_once);
        assert_eq!(self.calls.len(), self.lines.flying());
        let mut customers = BTreeSet::new();
        for (_, row) in &self.calls {
            assert!(customers.insert(row.customer), "two at once for a customer");
        }
        self.lines.check();
    }

    fn out_of_order(&self) -> usize {
        let diaries = self.diary.values();
        let steps = diaries.flat_map(|ids| ids.windows(2));
        steps.filter(|pair| pair[0] > pair[1]).count()
    }
}

impl<B> Lines<B> {
    /// Each line is in one place, and what is counted is there.
    fn check(&self) {
        let places = [&self.ready, &self.ready_again, &self.left, &self.left_again];
        let mut placed: Vec<u32> = places.into_iter().flatten().copied().collect();
        placed.extend(self.held.iter().map(|(_, customer)| *customer));
        placed.extend(self.parking.values().copied());
        let flying = self.lines.iter().filter(|(_, line)| line.flying);
        placed.extend(flying.map(|(customer, _)| *customer));
        placed.sort_unstable();
        let all = placed.len();
        placed.dedup();
        assert_eq!(placed.len(), all, "a line in two places");
        // Those that are being read are in none.
        assert!(self.lines.len() >= all && self.lines.len() <= all + ASKED_MAX);
        let queued = self.lines.values().map(|line| line.queue.len());
        assert_eq!(queued.sum::<usize>(), self.queued);
        assert!(
            self.lines
                .values()
                .all(|l| l.queue.len() <= LINE_LEN_MAX + 1)
        );
        assert!(self.flying_again <= self.flying);
    }
}

/// One seed: rows come for a while, customers fail for a while, owners die; then all is well until nothing is left.
fn play(seed: u64, without_lines: bool) -> World {
    let mut world = World::new(seed);
    world.without_lines = without_lines;
    play_with(world, None)
}

/// `for_ever`: this customer is refused to the end, and keeps only his own rows.
fn play_with(mut world: World, for_ever: Option<u32>) -> World {
    let customers = 1 + u32::try_from(world.dice.roll(30)).expect("small");
    let one = |dice: &mut Dice| u32::try_from(dice.roll(u64::from(customers))).expect("small");
    for _ in 0..400 {
        for _ in 0..world.dice.roll(6) {
            // Some write more than others.
            let customer = match world.dice.roll(3) {
                0 => 0,
                _ => one(&mut world.dice),
            };
            world.insert(customer);
        }
        match world.dice.roll(60) {
            0 => world.kill(),
            1 | 2 => {
                let customer = one(&mut world.dice);
                world.refused.insert(customer);
            }
            3..6 => world.refused.clear(),
            _ => {}
        }
        world.round();
    }
    world.refused = for_ever.into_iter().collect();
    let mut rounds = 0;
    let others = |world: &World| {
        let mut left = world.store.values();
        left.any(|row| Some(row.customer) != for_ever)
    };
    while others(&world) || (for_ever.is_none() && !world.lines.lines.is_empty()) {
        world.round();
        rounds += 1;
        assert!(rounds < 100_000, "{} rows are left", world.store.len());
    }
    world
}

#[test]
fn every_customer_is_told_in_order_under_any_interleaving() {
    let mut repeats = 0;
    for seed in 0..150 {
        let world = play(seed, false);
        assert_eq!(world.out_of_order(), 0, "seed {seed}");
        repeats += world.repeats;
    }
    assert!(repeats > 0, "owners died in the middle of nothing");
}

#[test]
fn a_customer_that_fails_for_ever_holds_up_nobody() {
    for seed in 1000..1040 {
        let world = play_with(World::new(seed), Some(0));
        assert_eq!(world.out_of_order(), 0, "seed {seed}");
        assert!(world.store.len() > 10, "seed {seed}");
    }
}

/// Goal: what is refused for too long is put aside, and its customer's next ones are tried; what was taken is never put aside
/// untold, and nothing is lost. Method: pauses of the refusals end within seconds; afterwards all is told or parked.
#[test]
fn a_parked_row_holds_up_nobody() {
    let mut parked = 0;
    for seed in 2000..2040 {
        let mut world = World::new(seed);
        world.park_after = Duration::from_secs(2);
        let world = play_with(world, None);
        assert_eq!(world.out_of_order(), 0, "seed {seed}");
        assert_eq!(
            world.stored,
            world.seen.union(&world.parked).count(),
            "seed {seed}"
        );
        parked += world.parked.len();
    }
    assert!(parked > 100, "{parked}");
}

/// Goal: the judge can judge. Method: the same worlds with a line for every row.
#[test]
fn without_lines_the_order_is_lost() {
    let lost = (0..20).filter(|seed| play(*seed, true).out_of_order() > 0);
    assert!(lost.count() > 15);
}

fn row(id: i64, customer: u32) -> Row<()> {
    Row {
        id,
        customer,
        attempts: 0,
        wait: Duration::ZERO,
        age: Duration::ZERO,
        body: (),
        bytes: 100,
    }
}

fn page(rows: Vec<Row<()>>) -> Page<()> {
    let last = rows.last().map(|row| row.id);
    Page {
        rows,
        last,
        full: false,
    }
}

/// Goal: customers that fail for ever cost the others nothing. Method: as many as there are places fail and hang; another one's
/// rows go at the pace of the receiver.
#[test]
fn customers_that_fail_leave_room_for_the_others() {
    let mut lines = Lines::default();
    let mut now = Instant::from_millis(1000);
    let failing: Vec<Row<()>> = (1..=50).map(|n| row(n.into(), n)).collect();
    lines.read_ahead(now, page(failing));
    let mut hanging = Vec::new();
    while let Some(row) = lines.start(now, 6, 6) {
        lines.failed(now, &row, (STEP, CAP));
    }
    assert_eq!(lines.in_memory(), 0);
    now = now + 2 * STEP;
    let looks = std::iter::from_fn(|| lines.wants(now, 6));
    let mut asked = looks.filter_map(|look| match look {
        Look::Customers(asked) => Some(asked),
        Look::Ahead { .. } => None,
    });
    let asked = asked.next().expect("their pauses are over");
    let again = asked.iter().map(|(customer, after)| {
        assert_eq!(i64::from(*customer), after + 1);
        row(after + 1, *customer)
    });
    lines.read_customers(now, &asked, again.collect());
    while let Some(row) = lines.start(now, 6, 6) {
        hanging.push(row);
    }
    assert_eq!(hanging.len(), 4, "repetitions leave two places");
    lines.read_ahead(now, page((60..100).map(|id| row(id, 1000)).collect()));
    for id in 60..60 + i64::try_from(LINE_LEN_MAX).expect("small") {
        assert_eq!(lines.start(now, 6, 6).map(|row| row.id), Some(id));
        lines.delivered(id, 1000);
    }
    lines.check();
}

/// Goal: pauses grow by the step up to the cap, by customer and over an owner's end; a success ends them.
#[test]
fn pauses_grow_by_customer() {
    let mut lines = Lines::default();
    let now = Instant::from_millis(1000);
    let stored = Row {
        attempts: 4,
        ..row(1, 7)
    };
    lines.read_ahead(now, page(vec![stored, row(2, 7)]));
    let first = lines.start(now, 6, 6).expect("ready");
    assert_eq!(lines.failed(now, &first, (STEP, CAP)), (5, 5 * STEP));
    assert_eq!(lines.start(now, 6, 6), None, "its customer waits");
    assert_eq!(lines.deadline(), Some(now + 5 * STEP));
    assert_eq!(lines.results().put_off, [(1, 15_000)]);
    let far = Row {
        attempts: 1_000_000,
        ..row(3, 8)
    };
    lines.read_ahead(now, page(vec![far]));
    let far = lines.start(now, 6, 6).expect("ready");
    assert_eq!(lines.failed(now, &far, (STEP, CAP)).1, CAP);
    // An earlier owner's pause is kept, however the rows of the customer come in.
    let put_off = Row {
        attempts: 1,
        wait: STEP,
        ..row(4, 9)
    };
    lines.read_ahead(now, page(vec![put_off, row(5, 9)]));
    assert_eq!(lines.start(now, 6, 6), None);
    assert_eq!(lines.deadline(), Some(now + STEP));
}

/// Goal: a row that was stored behind one with a higher number is found, and no row is sent twice because of that.
#[test]
fn a_row_that_was_passed_by_is_found() {
    let mut lines = Lines::default();
    let now = Instant::from_millis(1000);
    lines.read_ahead(now, page(vec![row(5, 1)]));
    lines.seen(9, 2);
    lines.seen(5, 1);
    lines.seen(3, 2);
    assert_eq!(lines.start(now, 6, 6).map(|row| row.id), Some(5));
    lines.seen(5, 1);
    lines.delivered(5, 1);
    lines.seen(5, 1);
    let asked = Look::Customers(vec![(2, 2)]);
    assert!(std::iter::from_fn(|| lines.wants(now, 6)).any(|look| look == asked));
    lines.read_customers(now, &[(2, 2)], vec![row(3, 2)]);
    assert_eq!(lines.start(now, 6, 6).map(|row| row.id), Some(3));
    lines.check();
}

/// Goal: memory has a bound. Method: more customers that fail than there are lines, rows that are large, a customer with many.
#[test]
fn memory_has_a_bound() {
    let mut lines = Lines::default();
    let now = Instant::from_millis(1000);
    let many = u32::try_from(LINES_MAX + 500).expect("small");
    let mut next = 1;
    while next <= many {
        let some: Vec<Row<()>> = (next..(next + 96).min(many + 1))
            .map(|n| row(n.into(), n))
            .collect();
        next += 96;
        lines.read_ahead(now, page(some));
        while let Some(row) = lines.start(now, 24, 24) {
            lines.failed(now, &row, (STEP, CAP));
        }
        let results = lines.take_results();
        lines.recorded(&results);
    }
    assert_eq!(lines.lines.len(), LINES_MAX);
    assert_eq!(lines.look_ahead(), None, "until lines end");
    let mut lines = Lines::default();
    let large = |id, customer| Row {
        bytes: BYTES_MAX / 4,
        ..row(id, customer)
    };
    lines.read_ahead(now, page((1..50).map(|id| large(id, 1)).collect()));
    lines.read_ahead(now, page((50..90).map(|id| large(id, 90)).collect()));
    assert!(lines.bytes <= BYTES_MAX && lines.queued == 4);
    lines.read_ahead(now, page((90..200).map(|id| row(id, 3)).collect()));
    assert!(
        lines
            .lines
            .values()
            .all(|line| line.queue.len() <= LINE_LEN_MAX)
    );
    lines.check();
}

//! Goal: whoever dies when, no call of the upstream is made twice by itself, and a person can go on. Method: the errand that
//! the product runs, in a small world with one row, one upstream and requests that arrive again and late; master and owner are
//! killed before and after everything that they do. The same world without the claim before the call must fail.

use super::*;

const NOW: u64 = 1_000_000;

fn claim(epoch: u64) -> Claim {
    Claim {
        epoch: Epoch(epoch),
        grant: Grant(epoch * 7),
    }
}

/// What the upstream does with a call.
#[derive(Debug, Clone, Copy)]
struct Upstream {
    number: Option<Number>,
    answer: fn(Call) -> Answer,
}

/// One row, one upstream, one owner at a time.
struct World {
    version: u64,
    row: Intent,
    epoch: u64,
    upstream: Upstream,
    /// Calls that reached the upstream, with the attempt that they were made for.
    made: Vec<(u64, Call)>,
    /// The claim is stored before the call leaves.
    claims: bool,
    /// Steps until the owner is killed; each action has a moment before it takes effect and one after.
    left: usize,
}

/// The owner is dead.
struct Killed;

impl World {
    fn new(upstream: Upstream, left: usize) -> Self {
        Self {
            version: 0,
            row: Intent::default(),
            epoch: 1,
            upstream,
            made: Vec::new(),
            claims: true,
            left,
        }
    }

    fn moment(&mut self) -> Result<(), Killed> {
        self.left = self.left.checked_sub(1).ok_or(Killed)?;
        Ok(())
    }

    /// A person asks, and a master admits; it may die before or after it has written that.
    fn admit(&mut self, wish: Wish) -> Result<u64, Killed> {
        self.moment()?;
        let admitted = self.row.admit(wish, NOW).expect("nothing runs");
        self.store(admitted);
        self.moment()?;
        Ok(self.row.attempt)
    }

    fn store(&mut self, intent: Intent) {
        self.row = intent;
        self.version += 1;
    }

    /// A request reaches the owner. `None`: its attempt is used up.
    fn serve(&mut self, attempt: u64, wish: Wish, pin: bool) -> Result<Option<End>, Killed> {
        let pin = pin.then(|| Pin {
            sealed: "sealed".into(),
            at_ms: NOW,
        });
        let own = claim(self.epoch);
        let mut known = self.version;
        let begun = Errand::begin(own, self.row.clone(), (attempt, wish), (pin, false), NOW);
        let Some((mut errand, mut action)) = begun else {
            return Ok(None);
        };
        loop {
            self.moment()?;
            let event = match action {
                Action::Look => Event::Number(self.upstream.number),
                Action::Write { intent, .. } => {
                    let claims = matches!(intent.step, Step::Calling { .. });
                    if known == self.version && (self.claims || !claims) {
                        self.store(intent);
                        known = self.version;
                        Event::Written(Written::Done)
                    } else if known == self.version {
                        Event::Written(Written::Done)
                    } else {
                        Event::Written(Written::Lost)
                    }
                }
                Action::Make(call) => {
                    self.made.push((self.row.attempt, call));
                    Event::Answered((self.upstream.answer)(call))
                }
                Action::End(end) => return Ok(Some(end)),
            };
            self.moment()?;
            action = errand.step(event, NOW);
        }
    }

    /// The next owner begins, and has nothing in hand.
    fn succeed(&mut self) {
        self.epoch += 1;
        self.left = usize::MAX;
        if let Some(orphaned) = self.row.orphaned(NOW) {
            self.store(orphaned);
        }
    }

    fn twice(&self) -> Option<(u64, Call)> {
        let mut sorted = self.made.clone();
        sorted.sort();
        let doubled = sorted.windows(2).find(|pair| pair[0] == pair[1]);
        doubled.map(|pair| pair[0])
    }
}

const FRESH: Number = Number {
    registered: false,
    verified: false,
    new_name: false,
};
const VERIFIED: Number = Number {
    verified: true,
    ..FRESH
};
const REGISTERED: Number = Number {
    registered: true,
    ..VERIFIED
};
const RENAMED: Number = Number {
    new_name: true,
    ..REGISTERED
};

fn accepts(_: Call) -> Answer {
    Answer::Accepted
}

/// Everything that can happen: every state of the number, every answer, every wish, with and without a pin.
fn worlds() -> Vec<(Upstream, Wish, bool)> {
    let answers: [fn(Call) -> Answer; 5] = [
        accepts,
        |_| Answer::Refused(133_016),
        |_| Answer::NotMade,
        |_| Answer::Unknown,
        |call| match call {
            Call::Register => Answer::Refused(WRONG_PIN),
            Call::RequestCode | Call::VerifyCode => Answer::Accepted,
        },
    ];
    let numbers = [FRESH, VERIFIED, REGISTERED, RENAMED].map(Some);
    let mut all = Vec::new();
    for number in numbers.into_iter().chain([None]) {
        for answer in answers {
            for wish in [Wish::Ask, Wish::Verify] {
                all.extend([true, false].map(|pin| (Upstream { number, answer }, wish, pin)));
            }
        }
    }
    all
}

/// Plays one world: killed after `left` moments; then the request arrives again at the next owner, twice. Says whether it came
/// to its end before.
fn play(world: &mut World, wish: Wish, pin: bool) -> bool {
    let Ok(attempt) = world.admit(wish) else {
        world.succeed();
        return false;
    };
    let ended = world.serve(attempt, wish, pin).is_ok();
    for _ in 0..2 {
        world.succeed();
        // Its answer is nobody's any more.
        let _ = world.serve(attempt, wish, pin);
    }
    ended
}

/// A person asks again until the number is registered.
fn go_on(world: &mut World) {
    world.upstream.answer = accepts;
    world.upstream.number = Some(VERIFIED);
    let later = NOW + ADMITTED_FOR_MS;
    let admitted = world.row.admit(Wish::Ask, later);
    let admitted = admitted.unwrap_or_else(|| panic!("stuck: {:?}", world.row));
    world.store(admitted);
    let end = world.serve(world.row.attempt, Wish::Ask, true);
    assert!(matches!(end, Ok(Some(End::Registered))), "{:?}", world.row);
    assert_eq!((world.row.step, &world.row.pin), (Step::Done, &None));
}

#[test]
fn no_death_makes_a_call_twice_and_all_of_them_leave_a_way() {
    let mut deaths = 0;
    for (upstream, wish, pin) in worlds() {
        for left in 0.. {
            let mut world = World::new(upstream, left);
            let ended = play(&mut world, wish, pin);
            assert_eq!(
                world.twice(),
                None,
                "{upstream:?} {wish:?} killed at {left}"
            );
            let per_attempt = |call| world.made.iter().filter(|(_, made)| *made == call).count();
            assert!(per_attempt(Call::Register) <= 1, "{:?}", world.made);
            let runs = matches!(world.row.step, Step::Calling { .. });
            assert!(!runs, "told after a death: {:?}", world.row);
            let silent = matches!(world.row.step, Step::Idle | Step::Done);
            let later = NOW + ADMITTED_FOR_MS;
            assert!(silent || world.row.told(later).is_some(), "{:?}", world.row);
            go_on(&mut world);
            deaths += 1;
            if ended {
                break;
            }
        }
    }
    assert!(deaths > 300, "only {deaths} deaths were played");
}

/// The test can fail: a call that leaves before its claim is stored is made again for a request that arrives twice.
#[test]
fn without_the_claim_before_the_call_one_is_made_twice() {
    let mut twice = 0;
    for (upstream, wish, pin) in worlds() {
        for left in 0..16 {
            let mut world = World::new(upstream, left);
            world.claims = false;
            play(&mut world, wish, pin);
            twice += usize::from(world.twice().is_some());
        }
    }
    assert!(twice > 0, "nobody noticed that the claim is gone");
}

#[test]
fn a_call_whose_owner_died_is_unknown_and_is_told() {
    let upstream = Upstream {
        number: Some(VERIFIED),
        answer: accepts,
    };
    // Admission 2 moments, look 2, claim 2, then in the middle of the call.
    let mut world = World::new(upstream, 7);
    play(&mut world, Wish::Ask, true);
    let call = Call::Register;
    assert_eq!(world.row.step, Step::Unknown { call });
    assert_eq!(world.made, [(1, Call::Register)]);
    let told = world.row.told(NOW).expect("told");
    assert!(
        told.wrong && told.says.contains("POST /v1/account again"),
        "{told:?}"
    );
    assert!(
        world.row.kept_pin(NOW).is_some(),
        "its outcome is not known"
    );
}

#[test]
fn one_runs_at_a_time() {
    let idle = Intent::default();
    let admitted = idle.admit(Wish::Ask, NOW).expect("nothing runs");
    assert_eq!(admitted.admit(Wish::Verify, NOW + 1), None);
    let silent = NOW + ADMITTED_FOR_MS;
    let next = admitted
        .admit(Wish::Verify, silent)
        .expect("nobody began it");
    assert_eq!(next.attempt, 2);
    // Whoever was admitted first comes too late.
    let late = Errand::begin(claim(1), next.clone(), (1, Wish::Ask), (None, true), silent);
    assert!(late.is_none());
    let (errand, _) =
        Errand::begin(claim(1), next, (2, Wish::Verify), (None, true), silent).expect("its turn");
    let calling = errand.intent();
    for age in [0, ADMITTED_FOR_MS, 1 << 40] {
        assert_eq!(
            calling.admit(Wish::Ask, silent + age),
            None,
            "it may be under way"
        );
    }
    assert!(calling.orphaned(silent).is_some());
    // The database's clock was set back by an hour: nobody waits for that hour.
    assert!(admitted.admit(Wish::Ask, NOW - 3_600_000 / 4).is_some());
}

#[test]
fn the_number_says_which_call_it_needs() {
    for (number, pin, call) in [
        (FRESH, true, Some(Call::RequestCode)),
        (FRESH, false, Some(Call::RequestCode)),
        (VERIFIED, true, Some(Call::Register)),
        (VERIFIED, false, Some(Call::RequestCode)),
        (REGISTERED, true, None),
        (REGISTERED, false, None),
        (RENAMED, true, Some(Call::Register)),
        (RENAMED, false, None),
    ] {
        assert_eq!(number.next(pin), call, "{number:?} {pin}");
    }
}

#[test]
fn a_code_is_not_used_up_without_a_pin() {
    let upstream = Upstream {
        number: None,
        answer: accepts,
    };
    let mut world = World::new(upstream, usize::MAX);
    let end = world.admit(Wish::Verify).ok();
    let end = world.serve(end.expect("alive"), Wish::Verify, false);
    assert!(matches!(end, Ok(Some(End::PinMissing))));
    assert!(world.made.is_empty());
}

#[test]
fn a_pin_lives_for_a_day_and_until_it_is_used() {
    let pin = || {
        Some(Pin {
            sealed: "s".into(),
            at_ms: NOW,
        })
    };
    let intent = Intent {
        step: Step::CodeSent,
        pin: pin(),
        ..Intent::default()
    };
    assert!(intent.kept_pin(NOW + PIN_FOR_MS - 1).is_some());
    assert_eq!(intent.without_old_pin(NOW + PIN_FOR_MS - 1), None);
    assert!(intent.kept_pin(NOW + PIN_FOR_MS).is_none());
    let without = intent.without_old_pin(NOW + PIN_FOR_MS).expect("too old");
    assert_eq!(without.pin, None);
    assert!(
        intent.kept_pin(NOW - 3_600_000 / 4).is_none(),
        "the clock was set back"
    );
    // A wrong pin is forgotten.
    let upstream = Upstream {
        number: Some(VERIFIED),
        answer: |_| Answer::Refused(WRONG_PIN),
    };
    let mut world = World::new(upstream, usize::MAX);
    play(&mut world, Wish::Ask, true);
    assert_eq!(world.row.pin, None);
}

/// Goal: a pin that was kept is gone where nothing will ask for it: once the number is seen to be registered, and once it has
/// another one; never under a call. Method: a look at a registered number with a pin in the row; then each step.
#[test]
fn a_pin_does_not_outlive_its_use() {
    let pin = Some(Pin {
        sealed: "sealed".into(),
        at_ms: NOW,
    });
    let row = Intent {
        pin,
        at_ms: NOW,
        ..Intent::default()
    };
    let admitted = row.admit(Wish::Ask, NOW).expect("nobody else");
    let asked = (admitted.attempt, Wish::Ask);
    let begun = Errand::begin(claim(1), admitted.clone(), asked, (None, false), NOW);
    let (mut errand, _) = begun.expect("begun");
    let number = Number {
        registered: true,
        verified: true,
        new_name: false,
    };
    let action = errand.step(Event::Number(Some(number)), NOW);
    let Action::Write { intent, must: true } = action else {
        panic!("{action:?}");
    };
    assert_eq!((intent.step, intent.pin), (Step::Done, None));
    assert_eq!(admitted.without_pin(NOW), None, "it may be in use");
    let without = row.without_pin(NOW).expect("nobody uses it");
    assert_eq!((without.pin, without.attempt), (None, row.attempt));
    let calling = Step::Calling {
        call: Call::Register,
        by: claim(1),
    };
    assert_eq!(row.at(calling, NOW).without_pin(NOW), None);
}

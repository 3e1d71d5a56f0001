//! Askers that come, wait and leave, and calls that land or break off, in many orders, each of which `shuttle` chooses at the points where tasks wait.

use std::rc::Rc;

use shuttle::future::{block_on, spawn_local, yield_now};

use super::*;

/// Orders that each model is run in.
const ORDERS: usize = 1_000;

/// What an asker is told: the moment at which the server was asked, or that the call broke off.
type Told = Result<u64, ()>;

#[derive(Default)]
struct World {
    flights: Flights<u8, u64, Told>,
    /// Grows with everything that happens.
    clock: Cell<u64>,
    under_way: Cell<u32>,
    most: Cell<u32>,
    calls: Cell<u32>,
    /// The moment of the answer that is kept.
    kept: Cell<u64>,
}

impl World {
    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    /// Asks; an answer may have been asked for so many moments before. Gives what comes of it, if anybody still wants to know.
    async fn ask(self: Rc<Self>, age: u64, stays: bool, breaks_off: bool) -> Option<Told> {
        yield_now().await;
        let (reply, answer) = oneshot::channel();
        let now = self.tick();
        if let Some(start) = self.flights.join(&0, Some(reply), now, |began| now - began <= age) {
            drop(spawn_local(Rc::clone(&self).call(start, breaks_off)));
        }
        if !stays {
            return None;
        }
        let told = answer.await.expect("everybody is told");
        if let Ok(asked) = told {
            assert!(now.saturating_sub(asked) <= age, "asked for at {asked}, told to whom came at {now}");
        }
        Some(told)
    }

    async fn call(self: Rc<Self>, start: Start<u64>, breaks_off: bool) {
        let landing = self.flights.begin(0, start, || Err(()));
        self.calls.set(self.calls.get() + 1);
        self.under_way.set(self.under_way.get() + 1);
        self.most.set(self.most.get().max(self.under_way.get()));
        yield_now().await;
        self.tick();
        yield_now().await;
        self.under_way.set(self.under_way.get() - 1);
        if breaks_off {
            return;
        }
        let began = landing.began();
        if landing.is_latest() {
            assert!(began > self.kept.get(), "an earlier answer takes the place of a later one");
            self.kept.set(began);
        }
        landing.lands(&Ok(began));
    }
}

/// Runs askers side by side; each is (may the answer be so old, does it stay, does its call break off).
fn run(askers: &'static [(u64, bool, bool)], then: impl Fn(&World) + Send + Sync + 'static) {
    shuttle::check_random(
        move || {
            let world = Rc::new(World::default());
            block_on(async {
                let asked: Vec<_> = askers.iter().map(|(age, stays, breaks)| spawn_local(Rc::clone(&world).ask(*age, *stays, *breaks))).collect();
                for asked in asked {
                    asked.await.expect("no panic");
                }
                while world.under_way.get() > 0 || !world.flights.under_way.borrow().is_empty() {
                    yield_now().await;
                }
            });
            then(&world);
        },
        ORDERS,
    );
}

const EVER: u64 = u64::MAX;

#[test]
fn everybody_is_told_and_never_are_two_calls_under_way() {
    run(&[(EVER, true, false), (EVER, true, false), (EVER, true, false), (EVER, true, false)], |world| assert_eq!(world.most.get(), 1));
}

#[test]
fn whoever_leaves_takes_nobodys_answer_along() {
    run(&[(EVER, false, false), (EVER, true, false), (EVER, false, false), (EVER, true, false)], |world| assert_eq!(world.most.get(), 1));
}

#[test]
fn a_call_that_breaks_off_tells_so_and_leaves_the_way_to_the_next() {
    run(&[(EVER, true, true), (EVER, true, false), (EVER, true, true)], |world| assert_eq!(world.most.get(), 1));
}

#[test]
fn nobody_is_told_what_was_asked_for_too_long_ago_and_a_later_answer_is_the_one_that_is_kept() {
    run(&[(0, true, false), (1, true, false), (0, true, false), (2, true, false)], |world| {
        assert_eq!(world.calls.get(), u32::try_from(world.flights.numbers.get()).expect("few"));
    });
}

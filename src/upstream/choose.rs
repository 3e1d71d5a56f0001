//! Which server a request goes to: the less busy of two that are drawn by weight, or the one that a sticky client had before.
//!
//! Each worker knows its own requests only; drawing two and taking the better one needs no more to spread the load evenly.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::fleet::Fitness;
use super::pool::Slot;
use super::{Config, Sticky};
use crate::telemetry::{Dependency, Metrics, RetryCounters};

/// Servers of an upstream that are looked at: a request remembers in 64 bits which it has tried.
pub(super) const MOST: usize = 64;

/// One attempt, in the budget's coin.
const COIN: u32 = 100;
/// Attempts in hand, so that a quiet upstream can lose a server with all its unused connections.
const IN_HAND: u32 = 256;

/// The servers of one upstream, as one worker sees them.
pub(super) struct Group {
    pub(super) seats: Vec<Seat>,
    pub(super) dependency: Arc<Dependency>,
    pub(super) retries: RetryCounters,
    budget: Cell<u32>,
}

/// A server and its share.
pub(super) struct Seat {
    pub(super) slot: Rc<Slot>,
    pub(super) weight: u32,
    /// What a sticky cookie calls it, where there is one.
    pub(super) tag: Option<Box<str>>,
}

/// Servers that are out of the question: a bit for each place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

impl Tried {
    pub(super) const fn add(&mut self, place: usize) {
        self.0 |= bit(place);
    }

    const fn has(self, place: usize) -> bool {
        self.0 & bit(place) != 0
    }
}

const fn bit(place: usize) -> u64 {
    if place < MOST { 1 << place } else { 0 }
}

/// The server that a request would rather have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    None,
    /// The one at this place.
    Place(usize),
    /// The same for all requests with this hash.
    Hash(u64),
}

impl Group {
    pub(super) fn new(config: &Config, mut seats: Vec<Seat>, dependency: Arc<Dependency>, metrics: &Metrics) -> Self {
        seats.truncate(MOST);
        Self { seats, dependency, retries: metrics.retries(&config.name), budget: Cell::new(if config.retry_budget == 0 { 0 } else { IN_HAND * COIN }) }
    }

    /// A server for the next attempt; `None` when all have been tried.
    pub(super) fn choose(&self, config: &Config, dice: &Dice, tried: Tried, wish: Wish) -> Option<(usize, &Rc<Slot>)> {
        if let [only] = self.seats.as_slice() {
            return (!tried.has(0)).then_some((0, &only.slot));
        }
        let mut out = tried;
        for (place, seat) in self.seats.iter().enumerate() {
            if seat.slot.member.fitness() == Fitness::Unfit {
                out.add(place);
            }
        }
        while let Some((place, seat)) = self.among(dice, out, wish) {
            if seat.slot.member.fitness() == Fitness::Fit || seat.slot.member.try_out(&config.ejection) {
                return Some((place, &seat.slot));
            }
            out.add(place);
        }
        // Nobody is fit: whoever has not been tried may still answer.
        self.among(dice, tried, wish).map(|(place, seat)| (place, &seat.slot))
    }

    fn among(&self, dice: &Dice, out: Tried, wish: Wish) -> Option<(usize, &Seat)> {
        match wish {
            Wish::Place(place) if !out.has(place) => {
                if let Some(seat) = self.seats.get(place) {
                    return Some((place, seat));
                }
            }
            Wish::Hash(hash) => return self.seats().filter(|(place, _)| !out.has(*place)).max_by(|(_, a), (_, b)| score(hash, a).total_cmp(&score(hash, b))),
            Wish::None | Wish::Place(_) => {}
        }
        let (first, one) = self.draw(dice, out)?;
        let mut rest = out;
        rest.add(first);
        match self.draw(dice, rest) {
            // Loads are compared by weight; where they are equal, the first draw decides.
            Some((second, other)) if u64::from(other.slot.load()) * u64::from(one.weight) < u64::from(one.slot.load()) * u64::from(other.weight) => {
                Some((second, other))
            }
            _ => Some((first, one)),
        }
    }

    /// One of those that are left, by weight.
    fn draw(&self, dice: &Dice, out: Tried) -> Option<(usize, &Seat)> {
        let left = || self.seats().filter(|(place, _)| !out.has(*place));
        let total: u64 = left().map(|(_, seat)| u64::from(seat.weight)).sum();
        let mut at = dice.below(total)?;
        left().find(|(_, seat)| match at.checked_sub(u64::from(seat.weight)) {
            Some(further) => {
                at = further;
                false
            }
            None => true,
        })
    }

    fn seats(&self) -> impl Iterator<Item = (usize, &Seat)> {
        self.seats.iter().enumerate()
    }

    /// A request has come: it earns a part of another attempt.
    pub(super) fn earn(&self, config: &Config) {
        self.budget.set(self.budget.get().saturating_add(u32::from(config.retry_budget)).min(IN_HAND * COIN));
    }

    /// Whether there may be another attempt.
    pub(super) fn spend(&self) -> bool {
        let left = self.budget.get().checked_sub(COIN);
        match left {
            Some(left) => self.budget.set(left),
            None => self.retries.refused(),
        }
        left.is_some()
    }

    /// What a request says of the server that it wants.
    pub(super) fn wish(&self, sticky: Option<&Sticky>, headers: &HeaderMap) -> Wish {
        match sticky {
            None => Wish::None,
            Some(Sticky::Header(name)) => headers.get(name).map_or(Wish::None, |value| {
                let mut hasher = DefaultHasher::new();
                value.as_bytes().hash(&mut hasher);
                Wish::Hash(hasher.finish())
            }),
            Some(Sticky::Cookie(name)) => {
                let tag = cookie(headers, name);
                let place = tag.and_then(|tag| self.seats.iter().position(|seat| seat.tag.as_ref().is_some_and(|own| own.as_bytes() == tag)));
                place.map_or(Wish::None, Wish::Place)
            }
        }
    }
}

impl Group {
    /// The place that the client's cookie names.
    pub(super) fn stuck_to(&self, config: &Config, headers: &HeaderMap) -> Option<usize> {
        match (&config.sticky, self.wish(config.sticky.as_ref(), headers)) {
            (Some(Sticky::Cookie(_)), Wish::Place(place)) => Some(place),
            _ => None,
        }
    }

    /// The cookie that an answer from this place is to set; none where the client has it.
    pub(super) fn cookie(&self, config: &Config, stuck: Option<usize>, place: usize, scheme: &str) -> Option<HeaderValue> {
        let Some(Sticky::Cookie(name)) = &config.sticky else { return None };
        let tag = self.seats.get(place).filter(|_| stuck != Some(place))?.tag.as_ref()?;
        let secure = if scheme == "https" { "; Secure" } else { "" };
        HeaderValue::try_from(format!("{name}={tag}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.seats.iter().map(|seat| &seat.slot)).finish()
    }
}

/// The value of the client's cookie with this name. What else is in the field need not be text (RFC 6265, 5.4).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Weighted rendezvous hashing: when a server goes, only its own clients move.
fn score(hash: u64, seat: &Seat) -> f64 {
    let mut hasher = DefaultHasher::new();
    (hash, &*seat.slot.member.label).hash(&mut hasher);
    // 32 bits are exact in a float; 0 < share < 1.
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    let share = (f64::from(u32::from_be_bytes([a, b, c, d])) + 0.5) / (f64::from(u32::MAX) + 1.0);
    -f64::from(seat.weight) / share.ln()
}

/// Good enough to spread load; nothing secret depends on it (xorshift64*).
#[derive(Debug)]
pub(super) struct Dice(Cell<u64>);

impl Dice {
    pub(super) fn new() -> Self {
        let mut seed = [0; 8];
        // Without randomness every worker begins alike, which is no harm.
        let _ = aws_lc_rs::rand::fill(&mut seed);
        Self(Cell::new(u64::from_be_bytes(seed) | 1))
    }

    /// A number below `end`; none when there is none.
    fn below(&self, end: u64) -> Option<u64> {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11).checked_rem(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Health;
    use crate::upstream::pool::{Busy, Pool};
    use crate::upstream::{Ejection, Fleet, Server};

    fn group(weights: &[u32], change: impl FnOnce(&mut Config)) -> (Arc<Config>, Rc<Group>, Rc<Pool>) {
        let at = |(place, weight): (usize, &u32)| Server { weight: *weight, ..Server::at(format!("127.0.0.1:{}", place + 1).parse().unwrap()) };
        let mut config = Config::new("albums", weights.iter().enumerate().map(at).collect());
        change(&mut config);
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new().unwrap());
        let pool = Pool::new(Health::new(Arc::clone(&metrics)), Fleet::new(metrics));
        let group = pool.group(&config).unwrap();
        (config, group, pool)
    }

    fn counts(config: &Config, group: &Group, pool: &Pool, times: usize, wish: Wish) -> Vec<usize> {
        let mut counts = vec![0; group.seats.len()];
        for _ in 0..times {
            counts[group.choose(config, &pool.dice, Tried::default(), wish).unwrap().0] += 1;
        }
        counts
    }

    #[test]
    fn idle_servers_are_asked_by_weight() {
        let (config, group, pool) = group(&[3, 1], |_| ());
        let counts = counts(&config, &group, &pool, 4000, Wish::None);
        assert!((2700..3300).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn load_follows_the_weights() {
        let (config, group, pool) = group(&[1, 1, 2], |_| ());
        let mut busy = Vec::new();
        for _ in 0..400 {
            let (_, slot) = group.choose(&config, &pool.dice, Tried::default(), Wish::None).unwrap();
            busy.push(Busy::at(slot));
        }
        let loads: Vec<u32> = group.seats.iter().map(|seat| seat.slot.load()).collect();
        assert!(loads[0].abs_diff(100) < 15 && loads[1].abs_diff(100) < 15 && loads[2].abs_diff(200) < 20, "{loads:?}");
        drop(busy);
        assert!(group.seats.iter().all(|seat| seat.slot.load() == 0));
    }

    #[test]
    fn an_unfit_server_is_asked_only_when_no_other_is_left() {
        let (config, group, pool) = group(&[1, 1, 1], |_| ());
        group.seats[1].slot.member.checked(false);
        assert_eq!(counts(&config, &group, &pool, 200, Wish::None)[1], 0);
        assert_eq!(counts(&config, &group, &pool, 50, Wish::Place(1))[1], 0);
        let mut tried = Tried::default();
        tried.add(0);
        tried.add(2);
        assert_eq!(group.choose(&config, &pool.dice, tried, Wish::None).unwrap().0, 1, "a guess is better than a refusal");
        tried.add(1);
        assert!(group.choose(&config, &pool.dice, tried, Wish::None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_rest_is_over_gets_one_request() {
        let (config, group, pool) = group(&[1, 1], |config| config.ejection = Ejection { failures: 1, ..Ejection::default() });
        group.seats[0].slot.member.failed(&config.ejection);
        assert_eq!(counts(&config, &group, &pool, 50, Wish::None), [0, 50]);
        tokio::time::advance(config.ejection.rest).await;
        assert_eq!(counts(&config, &group, &pool, 100, Wish::None), [1, 99]);
    }

    #[test]
    fn the_same_value_leads_to_the_same_server_and_few_move_when_one_goes() {
        let (config, group, pool) = group(&[1, 1, 1], |_| ());
        let at = |hash| group.choose(&config, &pool.dice, Tried::default(), Wish::Hash(hash)).unwrap().0;
        let before: Vec<usize> = (0..600).map(at).collect();
        assert_eq!(before, (0..600).map(at).collect::<Vec<_>>());
        for place in 0..3 {
            let share = before.iter().filter(|found| **found == place).count();
            assert!((120..280).contains(&share), "{share}");
        }
        group.seats[1].slot.member.checked(false);
        for (hash, place) in before.iter().enumerate() {
            assert!(*place == 1 || at(hash as u64) == *place);
        }
    }

    #[test]
    fn a_cookie_names_a_server() {
        let (config, group, pool) = group(&[1, 1], |config| config.sticky = Some(Sticky::Cookie("server".into())));
        let mut headers = HeaderMap::new();
        assert_eq!(group.wish(config.sticky.as_ref(), &headers), Wish::None);
        headers.insert(COOKIE, format!("a=b; server={}", group.seats[1].tag.as_deref().unwrap()).parse().unwrap());
        let wish = group.wish(config.sticky.as_ref(), &headers);
        assert_eq!(wish, Wish::Place(1));
        assert_eq!(counts(&config, &group, &pool, 50, wish), [0, 50]);
        headers.insert(COOKIE, "server=another".parse().unwrap());
        assert_eq!(group.wish(config.sticky.as_ref(), &headers), Wish::None);
    }

    #[test]
    fn other_cookies_of_the_client_need_not_be_text() {
        let (config, group, _pool) = group(&[1, 1], |config| config.sticky = Some(Sticky::Cookie("server".into())));
        let set = group.cookie(&config, None, 1, "http").unwrap();
        let pair = set.as_bytes().split(|byte| *byte == b';').next().unwrap();
        for (before, after) in [(&b"name=J\xf6rg; "[..], &b""[..]), (b"", b"; \xff=\xff"), (b"\xff; ;=;", b"")] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_bytes(&[before, pair, after].concat()).unwrap());
            assert_eq!(group.wish(config.sticky.as_ref(), &headers), Wish::Place(1), "{headers:?}");
        }
    }

    #[test]
    fn the_budget_runs_out_and_is_earned_again() {
        let (config, group, _pool) = group(&[1, 1], |_| ());
        assert_eq!((0..1000).filter(|_| group.spend()).count(), 256);
        (0..50).for_each(|_| group.earn(&config));
        assert_eq!((0..1000).filter(|_| group.spend()).count(), 10);
    }

    #[test]
    fn without_a_budget_nothing_is_sent_twice() {
        let (config, group, _pool) = group(&[1], |config| config.retry_budget = 0);
        group.earn(&config);
        assert!(!group.spend());
    }
}

//! What must hold of a path that a table accepts: no careless reading of it leads anywhere else.

use super::lenient::{self, decoded, segments};
use super::naive::Naive;
use crate::path::CanonicalPath;
use crate::routing::{RouteTable, Segment};

/// A table and its routes as a person would look them up.
pub(super) struct Tables {
    pub(super) table: RouteTable,
    pub(super) naive: Naive,
}

impl Tables {
    pub(super) fn new(table: RouteTable) -> Self {
        let naive = Naive::new(table.routes().iter().map(|route| route.config()));
        Self { table, naive }
    }

    /// Looks a path up as routing does, and again without the tree; where it is accepted, in every careless reading as well.
    pub(super) fn look_up(&self, host: &str, path: &CanonicalPath) {
        let own: Vec<Vec<u8>> = segments(path.as_str().as_bytes()).iter().map(|segment| decoded(segment)).collect();
        let found = self.table.find(host, path);
        let place = found.and_then(|found| self.table.routes().iter().position(|route| std::ptr::eq(&**route, &**found.route)));
        let naive = self.naive.find(host, &own, false);
        assert_eq!(place.into_iter().collect::<Vec<_>>(), naive, "{host}{path} leads elsewhere without the tree");
        let (Some(found), Some(place)) = (found, place) else { return };
        self.parameters(&found, path);
        let Ok(()) = self.table.check(path).and_then(|()| self.table.check_readings(host, path, found.route)) else { return };
        assert!(path.needs().beyond(found.route.config().opt_ins).is_empty(), "{path} needs more than its route admits");
        let Some(readings) = lenient::readings(path.as_str().as_bytes()) else { return };
        for reading in readings {
            self.reading(host, path, place, &reading);
        }
    }

    fn parameters(&self, found: &crate::routing::Match<'_>, path: &CanonicalPath) {
        let pattern = &found.route.config().pattern;
        let of_path: Vec<&str> = path.as_str().split('/').skip(1).filter(|segment| !segment.is_empty()).collect();
        let wanted = pattern.segments.iter().zip(&of_path).filter(|(segment, _)| matches!(segment, Segment::Parameter(_))).map(|(_, value)| *value);
        for (place, value) in wanted.enumerate() {
            assert_eq!(found.params.value(path, place), value, "parameter {place} of {path}");
        }
        let rest: Vec<&str> = found.params.rest(path).split('/').filter(|segment| !segment.is_empty()).collect();
        assert_eq!(Some(rest.as_slice()), of_path.get(pattern.segments.len()..), "the rest of {path}");
    }

    fn reading(&self, host: &str, path: &CanonicalPath, place: usize, reading: &[u8]) {
        let shown = || String::from_utf8_lossy(reading).into_owned();
        let read = segments(reading);
        for segment in &read {
            assert!(!matches!(segment.as_slice(), b"." | b".."), "{path} has dots in the reading {}", shown());
            assert!(
                std::str::from_utf8(segment).is_ok_and(|text| !text.chars().any(char::is_control)),
                "{path} holds more than text in the reading {}",
                shown()
            );
        }
        let admitted = !path.needs().is_empty();
        if !admitted {
            if self.is_named(host, path, place, &read) {
                return;
            }
            assert_eq!(self.naive.find(host, &read, false), [place], "{host}{path} leads elsewhere in the reading {}", shown());
        }
        let route = self.table.routes().get(place).expect("a route");
        for other in self.naive.find(host, &read, true) {
            let is_elsewhere = other != place && (admitted || self.naive.is_protected(other));
            assert!(!is_elsewhere, "{host}{path} leads to route {other} instead of {place} in the reading {}", shown());
            if other == place
                && admitted
                && let Some(protect) = route.protect()
            {
                self.resource(&protect.resource, path, place, &read);
            }
        }
    }

    /// Whether a reading leads elsewhere only where the route itself names what was written: whoever writes `/\u{fb01}le` into a route means that.
    fn is_named(&self, host: &str, path: &CanonicalPath, place: usize, read: &[Vec<u8>]) -> bool {
        let own: Vec<Vec<u8>> = path.segments().map(|segment| decoded(segment.as_bytes())).collect();
        let Some(route) = self.table.routes().get(place).filter(|_| own.len() == read.len() && own != read) else { return false };
        let named = |at: usize| matches!(route.config().pattern.segments.get(at), Some(Segment::Literal(_)));
        let as_named: Vec<Vec<u8>> = own.iter().zip(read).enumerate().map(|(at, (own, read))| if named(at) { own } else { read }.clone()).collect();
        as_named != read && self.naive.find(host, &as_named, false) == [place]
    }

    /// What names the resource is in every reading as it is written or as it is meant.
    fn resource(&self, resource: &crate::routing::ResourceChoice, path: &CanonicalPath, place: usize, read: &[Vec<u8>]) {
        let Some(route) = self.table.routes().get(place) else { return };
        let mut number = 0;
        for (at, segment) in route.config().pattern.segments.iter().enumerate() {
            let Segment::Parameter(_) = segment else { continue };
            let named = resource.is_named_by(number);
            number += 1;
            let (Some(written), Some(read)) = (path.segments().nth(at), read.get(at)) else { continue };
            let same = read == written.as_bytes() || *read == decoded(written.as_bytes());
            assert!(!named || same, "{path} names another resource when it is read as {}", String::from_utf8_lossy(read));
        }
    }
}

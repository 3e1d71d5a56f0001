//! Paths that stand for more than one: `*` is any one segment, and `/**` at the end all that is below, and the folder itself.

#[cfg(feature = "store")]
use std::cmp::Ordering;

/// Most templates of one owner that begin with the same folder before their first `*`.
#[cfg(feature = "store")]
pub const MOST_TEMPLATES: i64 = 32;

/// The same of all owners together. A request is looked for once in each shape that those of a folder have, at each folder above it.
#[cfg(feature = "store")]
pub const MOST_TEMPLATES_OF_ALL: i64 = 1024;

/// Which segments of a template, behind its folder, stand for any, and whether it has all below. Of all templates of one shape a path can only be taken by those
/// that are spelled like [`write`](Self::write) has it.
#[cfg(feature = "store")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// A bit for each segment.
    any: u64,
    /// How many segments there are, without the end.
    segments: u32,
    rest: bool,
}

#[cfg(feature = "store")]
impl Shape {
    /// Of what stands behind the folder. `None`: it is deeper than any that is shared.
    pub(super) fn of(below: &str) -> Option<Self> {
        let mut shape = Self { any: 0, segments: 0, rest: false };
        for segment in below.split('/').skip(1) {
            match segment {
                "**" => {
                    shape.rest = true;
                    break;
                }
                "*" => shape.any |= 1_u64.checked_shl(shape.segments)?,
                _ => {}
            }
            shape.segments = shape.segments.saturating_add(1);
        }
        (shape.segments <= u64::BITS).then_some(shape)
    }

    /// Writes what stands behind the folder in a template of this shape that takes a path; false: none does.
    pub(super) fn write(self, below: &str, text: &mut String) -> bool {
        let mut given = below.split('/').skip(1);
        for place in 0..self.segments {
            let Some(given) = given.next() else { return false };
            let any = (self.any >> place) & 1 == 1;
            if any && given.is_empty() {
                return false;
            }
            text.push('/');
            text.push_str(if any { "*" } else { given });
        }
        if self.rest {
            text.push_str("/**");
        }
        self.rest || given.next().is_none()
    }
}

/// The folder before the first segment that stands for any; `None`: there is no such segment.
pub(super) fn folder(path: &str) -> Option<&str> {
    let mut from = 0_usize;
    for segment in path.split('/') {
        if segment == "*" {
            return path.get(..from.saturating_sub(1));
        }
        from = from.saturating_add(segment.len()).saturating_add(1);
    }
    None
}

/// Whether a template takes a path.
#[cfg(feature = "store")]
pub(super) fn takes(template: &str, path: &str) -> bool {
    let mut given = path.split('/');
    for segment in template.split('/') {
        match (segment, given.next()) {
            ("**", _) => return true,
            ("*", Some(given)) if !given.is_empty() => {}
            (literal, Some(given)) if literal == given => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

/// The more exact one of two that take the same path comes first: from the left, what is named before what stands for any, and that before the rest.
#[cfg(feature = "store")]
pub(super) fn exactness(one: &str, other: &str) -> Ordering {
    let kinds = |template: &str| template.split('/').map(|segment| ["*", "**"].iter().position(|any| *any == segment)).collect::<Vec<_>>();
    kinds(one).cmp(&kinds(other))
}

/// The one path that the path of a record leads to, be it with all below; `None`: it is a template, and leads to many.
#[must_use]
pub fn one_path(path: &str) -> Option<&str> {
    let literal = path.strip_suffix("/**").unwrap_or(path);
    folder(literal).is_none().then_some(if literal.is_empty() { "/" } else { literal })
}

#[cfg(test)]
#[cfg(feature = "store")]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_what_stands_before_the_first_segment_that_stands_for_any() {
        for (path, expected) in [
            ("/a/b", None),
            ("/a/**", None),
            ("/**", None),
            ("/a*/b", None),
            ("/*", Some("")),
            ("/*/**", Some("")),
            ("/a/b/*", Some("/a/b")),
            ("/a/*/c/*", Some("/a")),
            ("/a/*/**", Some("/a")),
        ] {
            assert_eq!(folder(path), expected, "{path}");
        }
    }

    #[test]
    fn a_template_leads_to_no_one_path() {
        for (path, expected) in [("/a", Some("/a")), ("/a/**", Some("/a")), ("/**", Some("/")), ("/", Some("/")), ("/*", None), ("/a/*/**", None)] {
            assert_eq!(one_path(path), expected, "{path}");
        }
    }

    #[test]
    fn a_segment_stands_for_one_and_the_end_for_all_below() {
        for (template, path, expected) in [
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/*", true),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", false),
            ("/*", "/", false),
            ("/*/x", "/a/x", true),
            ("/*/x", "/a/X", false),
            ("/*/x", "/a/x/y", false),
            ("/a/*/c/*", "/a/b/c/d", true),
            ("/a/*/c/*", "/a/b/d/d", false),
            ("/a/*/**", "/a/b", true),
            ("/a/*/**", "/a/b/c/d", true),
            ("/a/*/**", "/a", false),
        ] {
            assert_eq!(takes(template, path), expected, "{template} {path}");
        }
    }

    #[test]
    fn what_is_named_further_to_the_left_is_more_exact() {
        let sorted = ["/a/b/**", "/a/*/c/d", "/a/*/c/*", "/a/*/c/**", "/a/*/*/d", "/a/*/*", "/a/*/**"];
        for (place, one) in sorted.iter().enumerate() {
            for (other_place, other) in sorted.iter().enumerate() {
                if takes(one, "/a/b/c/d") && takes(other, "/a/b/c/d") {
                    assert_eq!(exactness(one, other), place.cmp(&other_place), "{one} {other}");
                }
            }
        }
    }
}

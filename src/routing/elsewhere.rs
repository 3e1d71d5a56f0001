//! Paths as other programs write them: regular expressions, nginx's ways to match, whole addresses. None is read as such; what is meant can be told.

use super::config::Pattern;
use super::pattern::{PatternProblem, PatternProblemKind, is_name};

/// What is wrong with a text that is another program's way to say which paths are meant; `None`: it is none.
pub(super) fn problem(text: &str) -> Option<PatternProblem> {
    let (kind, instead) = if let Some((scheme, behind)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https" | "*")) {
        let host = behind.split('/').next().unwrap_or_default();
        let path = text.get(scheme.len() + 3 + host.len()..).map(|path| path.trim_end_matches('/'));
        (PatternProblemKind::Address, path.map(|path| if path.is_empty() { "/".to_owned() } else { path.to_owned() }))
    } else if matches!(text, "*" | "**") {
        (PatternProblemKind::Asterisk, Some("/**".to_owned()))
    } else if is_expression(text) {
        (PatternProblemKind::Expression, meant(text))
    } else {
        return None;
    };
    Some(PatternProblem { kind, offset: 0, length: text.len(), instead: instead.filter(|instead| Pattern::read(instead).is_ok()) })
}

/// The first segment of a path that is no name in another program's notation, `:name` or a part of a regular expression: where it begins, and the whole as it
/// is meant.
pub(super) fn strange(text: &str) -> Option<(usize, String)> {
    let (mut offset, mut first) = (0, None);
    for piece in text.split('/') {
        let ends = piece.ends_with('$') && offset + piece.len() == text.len();
        first = first.or_else(|| (name(piece).is_some() || is_part(piece) || ends).then_some(offset));
        offset += piece.len() + 1;
    }
    let whole = meant(text).filter(|whole| whole != text)?;
    first.filter(|_| Pattern::read(&whole).is_ok()).map(|first| (first, whole))
}

/// Whether a text is a regular expression, or one of nginx's ways to match.
fn is_expression(text: &str) -> bool {
    text.starts_with(['^', '~']) || text.starts_with("= ") || text.ends_with('$') || text.split('/').any(is_part)
}

/// Whether a segment has what only regular expressions have. `a+`, `(a)` and `*.jpg` may be names, or what people write elsewhere.
fn is_part(piece: &str) -> bool {
    let class = piece.find('[').is_some_and(|open| piece.get(open..).is_some_and(|rest| rest.contains(']')));
    let escape = ["\\d", "\\w", "\\s", "\\.", "\\-"].iter().any(|escape| piece.contains(escape));
    let group = piece.contains("(?") || (piece.contains('(') && piece.contains('|'));
    !piece.starts_with('{') && (class || escape || group || piece.contains(".*") || piece.contains(".+"))
}

/// The path that is meant.
fn meant(text: &str) -> Option<String> {
    let modifiers = |text: &'_ str| ["~*", "^~", "~", "="].iter().find_map(|modifier| text.strip_prefix(modifier).map(str::trim_start).map(str::len));
    let plain = modifiers(text).and_then(|left| text.get(text.len() - left..)).unwrap_or(text);
    let anchored = plain.starts_with('^');
    let plain = plain.trim_start_matches('^').trim_end_matches('$').trim_end_matches("/?").replace("[^/]", "[^]");
    let mut whole = String::new();
    let mut pieces = plain.strip_prefix('/')?.split('/').peekable();
    let mut unnamed = 0_usize;
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        let everything = matches!(piece, ".*" | ".+" | "(.*)" | "(.+)") || piece.starts_with("[...");
        let begun = piece.strip_suffix(".*").or_else(|| piece.strip_suffix(".+")).filter(|begun| anchored && last && !begun.is_empty() && !is_part(begun));
        match (name(piece), begun) {
            _ if everything && last => whole.push_str("/**"),
            (Some(name), _) => whole.push_str(&format!("/{{{name}}}")),
            (None, Some(begun)) => whole.push_str(&format!("/{begun}/**")),
            // Of a file's name nothing can be said but that it is one.
            (None, None) if piece.contains(".*") && !everything => return None,
            (None, None) if is_part(piece) => {
                unnamed += 1;
                whole.push_str(&if unnamed == 1 { "/{segment}".to_owned() } else { format!("/{{segment{unnamed}}}") });
            }
            (None, None) if piece.is_empty() => {}
            (None, None) => whole.push_str(&format!("/{piece}")),
        }
    }
    // Such a match has a beginning alone.
    if (anchored || text.starts_with("^~")) && !text.ends_with('$') && !whole.ends_with("/**") {
        whole.push_str("/**");
    }
    Some(if whole.is_empty() { "/".to_owned() } else { whole })
}

/// The name of a parameter as others write it: `:album`, `[album]`, `(?<album>[a-z]+)`.
fn name(piece: &str) -> Option<&str> {
    let bracket = |open: &str, close: char| piece.strip_prefix(open).and_then(|piece| piece.split(close).next());
    let named = bracket("(?<", '>').or_else(|| bracket("(?P<", '>'));
    let class = piece.strip_prefix('[').and_then(|piece| piece.strip_suffix(']')).filter(|name| name.len() > 1 && !name.contains('-'));
    piece.strip_prefix(':').or(named).or(class).filter(|name| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_write_is_told_as_it_is_written_here() {
        for (text, instead) in [
            ("/a/[0-9]+", Some("/a/{segment}")),
            ("/a/[0-9]+/b/[^/]+", Some("/a/{segment}/b/{segment2}")),
            ("^/public/.*$", Some("/public/**")),
            ("~ ^/public", Some("/public/**")),
            ("~ ^/public$", Some("/public")),
            ("~* ^/public.*", Some("/public/**")),
            ("= /public", Some("/public")),
            ("^~ /public/", Some("/public/**")),
            ("/public/.*", Some("/public/**")),
            ("/public$", Some("/public")),
            ("/a/\\d+/b", Some("/a/{segment}/b")),
            ("/a/(?<id>[0-9]+)", Some("/a/{id}")),
            ("/a/(b|c)", Some("/a/{segment}")),
            ("/a/[slug]/[...rest]", Some("/a/{slug}/**")),
            ("/a/report.*", None),
            ("https://photos.example.org/a/**", Some("/a/**")),
            ("https://photos.example.org", Some("/")),
            ("*", Some("/**")),
        ] {
            let found = problem(text).unwrap_or_else(|| panic!("{text} is a path"));
            assert_eq!(found.instead.as_deref(), instead, "{text}");
            assert!(instead.is_none_or(|instead| Pattern::parse(instead).is_ok()), "{text}");
        }
    }

    #[test]
    fn nothing_is_told_that_stands_there_already() {
        for text in ["/a$/b", "/a$/{b}", "/:name$/x"] {
            assert_eq!(strange(text), None, "{text}");
        }
        assert_eq!(strange("/a$/:name"), Some((4, "/a$/{name}".to_owned())));
    }

    #[test]
    fn a_path_is_no_expression() {
        for text in ["/docs/c++/**", "/wiki/Foo_(bar)", "/a.b/*.jpg", "/{a}/**", "/{file:[a-z]+}", "/a~b", "/price=1", "/a$b", "/x.y.z"] {
            assert_eq!(problem(text), None, "{text}");
        }
    }
}

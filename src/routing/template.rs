//! Texts that path parameters are filled into: resource names and owners (decoded), and `rewrite` (as they came).

use std::sync::Arc;

use super::config::{Pattern, Rewrite, Template, TemplatePart};
use super::pattern::is_name;
use super::table::Params;
use crate::path::{CanonicalPath, PathProblem, decoded};

/// What is wrong with a text that holds path parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct TemplateProblem {
    /// What it is.
    pub kind: TemplateProblemKind,
    /// Where it begins in the text, in bytes from 0.
    pub offset: usize,
    /// How many bytes it spans.
    pub length: usize,
    /// The whole text as it could be written instead, where that is plain.
    pub instead: Option<String>,
}

/// The kinds of a [`TemplateProblem`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblemKind {
    /// A brace that belongs to no parameter.
    #[error("a brace stands only around the name of a path parameter")]
    Brace,
    /// A parameter that the path does not have.
    #[error("the path has no parameter `{0}`")]
    UnknownParameter(Box<str>),
    /// Nothing in it.
    #[error("the text is empty")]
    Empty,
    /// `{**}` elsewhere than at the end of a rewrite, or where the path has no `/**`.
    #[error("`{{**}}` stands only at the end of `rewrite`, behind a slash, and only where the path ends in `/**`")]
    Rest,
    /// The rewritten path would be refused.
    #[error("this is not a path that the gateway forwards: {}", .0.reason())]
    Path(PathProblem),
    /// The rewritten path is not in canonical form.
    #[error("this is not the form in which paths are forwarded")]
    NotCanonical,
}

impl Template {
    /// Reads a text in which `{name}` stands for a path parameter; `names` are those of the pattern, from the left.
    ///
    /// # Errors
    /// The first problem from the left.
    pub fn parse(text: &str, names: &[Arc<str>]) -> Result<Self, TemplateProblem> {
        if text.is_empty() {
            return Err(TemplateProblem { kind: TemplateProblemKind::Empty, offset: 0, length: 0, instead: None });
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let offset = text.len() - rest.len();
            let problem = |kind, length, instead| TemplateProblem { kind, offset, length, instead };
            let Some(behind) = rest.strip_prefix('{') else {
                let (literal, behind) = rest.find(['{', '}']).map_or((rest, ""), |at| rest.split_at(at));
                if literal.is_empty() {
                    return Err(problem(TemplateProblemKind::Brace, 1, None));
                }
                parts.push(TemplatePart::Text(literal.into()));
                rest = behind;
                continue;
            };
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(problem(TemplateProblemKind::Brace, rest.len(), None));
            };
            if name == "**" {
                return Err(problem(TemplateProblemKind::Rest, 4, None));
            }
            if !is_name(name) {
                return Err(problem(TemplateProblemKind::Brace, name.len() + 2, None));
            }
            let Some(place) = names.iter().position(|known| &**known == name) else {
                // With one parameter there is only one that can be meant.
                let instead = if let [only] = names { Some(text.replacen(&format!("{{{name}}}"), &format!("{{{only}}}"), 1)) } else { None };
                return Err(problem(TemplateProblemKind::UnknownParameter(name.into()), name.len() + 2, instead));
            };
            parts.push(TemplatePart::Parameter(place));
            rest = behind;
        }
        Ok(Self { text: text.into(), parts })
    }

    /// Whether it is the same for every request.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, TemplatePart::Parameter(_)))
    }

    /// The places of the parameters that it uses.
    pub fn parameters(&self) -> impl Iterator<Item = usize> + '_ {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Parameter(place) => Some(*place),
            TemplatePart::Text(_) => None,
        })
    }

    /// Whether two paths never give the same text: no two parameters, but for those that are `told` in another way, stand without a `/` between them. Where
    /// values may hold slashes, there is one at most.
    #[must_use]
    pub fn is_clear(&self, told: &[usize], slashes: bool) -> bool {
        let mut open = false;
        self.parts.iter().all(|part| match part {
            TemplatePart::Text(text) => {
                open &= slashes || !text.contains('/');
                true
            }
            TemplatePart::Parameter(place) => told.contains(place) || !std::mem::replace(&mut open, true),
        })
    }

    /// The text with the values of the path's parameters, percent-decoded. A constant text is shared, not copied.
    #[must_use]
    pub fn fill(&self, params: &Params, path: &CanonicalPath) -> Arc<str> {
        if self.is_constant() {
            return Arc::clone(&self.text);
        }
        let mut out = String::new();
        for part in &self.parts {
            match part {
                TemplatePart::Text(text) => out.push_str(text),
                // A canonical path decodes to UTF-8, so nothing is lost here.
                TemplatePart::Parameter(place) => out.push_str(&decoded(params.value(path, *place))),
            }
        }
        out.into()
    }
}

impl Rewrite {
    /// Reads the path that the upstream sees instead of the one asked for.
    ///
    /// # Errors
    /// The first problem from the left.
    pub fn parse(text: &str, pattern: &Pattern) -> Result<Self, TemplateProblem> {
        let problem = |kind, offset, length, instead| TemplateProblem { kind, offset, length, instead };
        if !text.starts_with('/') {
            let instead = Some(format!("/{text}"));
            return Err(problem(TemplateProblemKind::Path(PathProblem::NotRooted), 0, text.len(), instead));
        }
        let prefix = text.strip_suffix("/{**}");
        if prefix.is_some() && !pattern.rest {
            return Err(problem(TemplateProblemKind::Rest, text.len() - 4, 4, None));
        }
        if let Some(at) = text.split('/').position(|segment| segment == "**") {
            // In a path it is the rest; here it would be two characters.
            let offset = text.split('/').take(at).map(|segment| segment.len().saturating_add(1)).sum();
            let instead = text.strip_suffix("/**").filter(|_| pattern.rest).map(|before| format!("{before}/{{**}}"));
            return Err(problem(TemplateProblemKind::Rest, offset, 2, instead));
        }
        let names: Vec<Arc<str>> = pattern.parameters().cloned().collect();
        let template = match prefix {
            Some("") => Template { text: text.into(), parts: Vec::new() },
            prefix => Template { text: text.into(), ..Template::parse(prefix.unwrap_or(text), &names)? },
        };
        let example: String = template.parts.iter().fold(String::new(), |example, part| {
            example
                + match part {
                    TemplatePart::Text(text) => text,
                    TemplatePart::Parameter(_) => "x",
                }
        });
        if !example.is_empty() {
            let path = CanonicalPath::parse(&example).map_err(|reason| problem(TemplateProblemKind::Path(reason), 0, text.len(), None))?;
            if path.as_str() != example {
                let instead = template.is_constant().then(|| format!("{path}{}", if prefix.is_some() { "/{**}" } else { "" }));
                return Err(problem(TemplateProblemKind::NotCanonical, 0, text.len(), instead));
            }
        }
        Ok(Self { template, rest: prefix.is_some() })
    }

    /// The upstream's path for a request's path: parameters as they came, `{**}` the rest, a trailing slash as sent.
    ///
    /// # Errors
    /// When parameters and text grow together into a path that has no single safe reading, such as two that make `..`.
    pub fn apply(&self, params: &Params, path: &CanonicalPath) -> Result<CanonicalPath, PathProblem> {
        let mut out = String::with_capacity(self.template.text.len() + path.as_str().len());
        for part in &self.template.parts {
            match part {
                TemplatePart::Text(text) => out.push_str(text),
                TemplatePart::Parameter(place) => out.push_str(params.value(path, *place)),
            }
        }
        if self.rest {
            out.push_str(params.rest(path));
        } else if path.has_trailing_slash() && !out.ends_with('/') {
            out.push('/');
        }
        if out.is_empty() {
            out.push('/');
        }
        // What the route admitted may go on; nothing more may come of it.
        CanonicalPath::parse_within(out, path.needs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn parameters_are_known_by_their_place() {
        let template = Template::parse("album {album} of {owner}!", &names(&["owner", "album"])).unwrap();
        assert_eq!(
            template.parts,
            [
                TemplatePart::Text("album ".into()),
                TemplatePart::Parameter(1),
                TemplatePart::Text(" of ".into()),
                TemplatePart::Parameter(0),
                TemplatePart::Text("!".into())
            ]
        );
        assert!(Template::parse("Alice vacation", &[]).unwrap().is_constant());
    }

    #[test]
    fn mistakes_have_their_place() {
        use TemplateProblemKind as Kind;
        let known = names(&["album"]);
        for (text, kind, offset, instead) in [
            ("", Kind::Empty, 0, None),
            ("a {alben}", Kind::UnknownParameter("alben".into()), 2, Some("a {album}")),
            ("a {album", Kind::Brace, 2, None),
            ("a } b", Kind::Brace, 2, None),
            ("a {} b", Kind::Brace, 2, None),
            ("a {**}", Kind::Rest, 2, None),
        ] {
            let problem = Template::parse(text, &known).unwrap_err();
            assert_eq!((problem.kind, problem.offset, problem.instead.as_deref()), (kind, offset, instead), "{text}");
        }
    }

    #[test]
    fn a_rewrite_that_could_not_be_forwarded_is_refused_at_load() {
        use TemplateProblemKind as Kind;
        let pattern = Pattern::parse("/v1/{a}/**").unwrap();
        for (text, kind) in [
            ("x", Kind::Path(PathProblem::NotRooted)),
            ("/x//y", Kind::Path(PathProblem::EmptySegment)),
            ("/../{**}", Kind::Path(PathProblem::DotSegment)),
            ("/{**}/x", Kind::Rest),
            ("/x{**}", Kind::Rest),
            ("/{b}/{**}", Kind::UnknownParameter("b".into())),
            ("/%61/{**}", Kind::NotCanonical),
            ("/x?y", Kind::Path(PathProblem::Byte)),
        ] {
            assert_eq!(Rewrite::parse(text, &pattern).map_err(|problem| problem.kind), Err(kind), "{text}");
        }
        assert_eq!(Rewrite::parse("/x/{**}", &Pattern::parse("/x").unwrap()).map_err(|problem| problem.kind), Err(Kind::Rest));
    }
}

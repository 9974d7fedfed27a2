//! Path templates as people write them: `/api/{version}/orders/{id:[0-9]+}` or `/static/{*rest}`.
//! Only reads the form; patterns are compiled by [`crate::pattern`], and matching is the plan's.

use std::collections::BTreeSet;

/// Most segments of a template, the empty one of a trailing slash included.
const MAX_SEGMENTS: usize = 32;

/// A path template: its segments, of which there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

/// What stands between two slashes of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this text, percent-decoded. Only the last one can be empty, which is a trailing slash;
    /// the template `/` is a single empty segment.
    Static(String),
    /// `{name}`: any one segment.
    Param {
        /// The name, unique in the template, `[a-z_][a-z0-9_]*`.
        name: String,
    },
    /// `{name:regex}`: one segment that the regex matches as a whole.
    Pattern {
        /// The name, as for a parameter.
        name: String,
        /// The regex as written, not yet compiled.
        regex: String,
    },
    /// `{*name}`: whatever follows, slashes included. Always last.
    Rest {
        /// The name, as for a parameter.
        name: String,
    },
}

/// A text that is no path template: what is wrong, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path `{template}`, character {place}: {fault}")]
pub struct TemplateError {
    template: String,
    place: usize,
    fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("a path starts with `/`")]
    NotRooted,
    #[error("the segment is empty, remove one `/`")]
    Empty,
    #[error("more than {MAX_SEGMENTS} segments, end the path with `{{*rest}}` instead")]
    TooMany,
    #[error("the `{{` is never closed, add `}}`, and write a literal brace in a regex as `\\{{`")]
    Unclosed,
    #[error("the `}}` closes nothing, remove it, and write a literal brace in a path as `%7D`")]
    Unopened,
    #[error("a parameter is a whole segment, put `/` around `{{..}}`")]
    NotWhole,
    #[error(
        "`{name}` is not a parameter name, write it with `a-z`, `0-9` and `_`, not starting with a digit"
    )]
    Name { name: String },
    #[error("the parameter `{name}` comes twice, rename one")]
    Twice { name: String },
    #[error("the parameter `{name}` has an empty regex, write `{{{name}}}` to match any segment")]
    EmptyRegex { name: String },
    #[error("`{{*{name}}}` takes the rest of the path, nothing can follow it")]
    NotLast { name: String },
    #[error("`{mark}` ends a path, remove it, or write a literal one as `{escape}`")]
    Mark { mark: char, escape: &'static str },
    #[error("a control character cannot be in a path, remove it")]
    Control,
    #[error("a `%` is followed by two hexadecimal digits, write a literal one as `%25`")]
    Escape,
    #[error(
        "an escaped slash cannot be told from a `/` by what the path passes through, remove it"
    )]
    EscapedSlash,
    #[error("the escapes are not UTF-8, escape each byte of a character's UTF-8 form")]
    NotUtf8,
    #[error("`{dots}` is resolved before a path is routed, write the resolved path")]
    Dots { dots: String },
}

/// A fault and the byte at which it is, counted from where its finder began.
type Found<T> = Result<T, (usize, Fault)>;

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`] when the text does not start with `/`, has an empty segment before the last, has more than 32
    /// segments, unbalanced braces, a parameter that is not a whole segment or not named `[a-z_][a-z0-9_]*` or named
    /// twice, a rest that is not last, `?`, `#` or control characters, or escapes that are malformed or hide a slash.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let segments = read(text).map_err(|(at, fault)| {
            let before = text
                .char_indices()
                .take_while(|(start, _)| *start < at)
                .count();
            TemplateError {
                template: text.to_owned(),
                place: before.saturating_add(1),
                fault,
            }
        })?;
        Ok(Template { segments })
    }

    /// The segments in order, at least one.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

impl Segment {
    /// The name of the parameter, if it is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Segment::Static(_) => None,
            Segment::Param { name } | Segment::Pattern { name, .. } | Segment::Rest { name } => {
                Some(name)
            }
        }
    }
}

/// The segments of a template.
fn read(text: &str) -> Found<Vec<Segment>> {
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
        return Err((at, Fault::Control));
    }
    let mut rest = text.strip_prefix('/').ok_or((0, Fault::NotRooted))?;
    let mut at = 1_usize;
    let mut names = BTreeSet::new();
    let mut segments = Vec::new();
    loop {
        let here = |(offset, fault)| (at.saturating_add(offset), fault);
        let len = segment_len(rest).map_err(here)?;
        let (segment, behind) = rest.split_at_checked(len).unwrap_or((rest, ""));
        let last = behind.is_empty();
        let read = read_segment(segment, last).map_err(here)?;
        if let Some(name) = read.name()
            && !names.insert(name.to_owned())
        {
            return Err((
                at,
                Fault::Twice {
                    name: name.to_owned(),
                },
            ));
        }
        if segments.len() == MAX_SEGMENTS {
            return Err((at, Fault::TooMany));
        }
        segments.push(read);
        if last {
            return Ok(segments);
        }
        rest = behind.strip_prefix('/').unwrap_or_default();
        at = at.saturating_add(len).saturating_add(1);
    }
}

/// The length of the first segment: up to a slash that is not within braces, where a regex may have its own.
fn segment_len(text: &str) -> Found<usize> {
    let mut open: Vec<usize> = Vec::new();
    // A backslash takes the meaning off the brace behind it, but only in a regex.
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = !open.is_empty(),
            b'{' => open.push(at),
            b'}' => {
                open.pop().ok_or((at, Fault::Unopened))?;
            }
            b'/' if open.is_empty() => return Ok(at),
            _ => {}
        }
    }
    match open.first() {
        Some(at) => Err((*at, Fault::Unclosed)),
        None => Ok(text.len()),
    }
}

/// Where the pair of braces that opens a text ends; its braces are balanced.
fn pair_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth = depth.saturating_add(1),
            b'}' if depth == 1 => return at.saturating_add(1),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    text.len()
}

/// One segment, whose braces are balanced.
fn read_segment(text: &str, last: bool) -> Found<Segment> {
    let Some(at) = text.find('{') else {
        return if text.is_empty() && !last {
            Err((0, Fault::Empty))
        } else {
            read_static(text).map(Segment::Static)
        };
    };
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let inner = inner
        .filter(|_| pair_end(text) == text.len())
        .ok_or((at, Fault::NotWhole))?;
    if let Some(name) = inner.strip_prefix('*') {
        let name = read_name(name)?;
        return if last {
            Ok(Segment::Rest { name })
        } else {
            Err((0, Fault::NotLast { name }))
        };
    }
    match inner.split_once(':') {
        None => Ok(Segment::Param {
            name: read_name(inner)?,
        }),
        Some((name, "")) => Err((
            0,
            Fault::EmptyRegex {
                name: read_name(name)?,
            },
        )),
        Some((name, regex)) => Ok(Segment::Pattern {
            name: read_name(name)?,
            regex: regex.to_owned(),
        }),
    }
}

/// Percent-decoded static text.
fn read_static(text: &str) -> Found<String> {
    let mut decoded = Vec::new();
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        let decoded_byte = match byte {
            b'?' => {
                return Err((
                    at,
                    Fault::Mark {
                        mark: '?',
                        escape: "%3F",
                    },
                ));
            }
            b'#' => {
                return Err((
                    at,
                    Fault::Mark {
                        mark: '#',
                        escape: "%23",
                    },
                ));
            }
            b'%' => {
                let mut digit = || {
                    bytes
                        .next()
                        .and_then(|(_, digit)| char::from(digit).to_digit(16))
                };
                let (high, low) = digit().zip(digit()).ok_or((at, Fault::Escape))?;
                u8::try_from(high << 4 | low).map_err(|_| (at, Fault::Escape))?
            }
            byte => byte,
        };
        match decoded_byte {
            b'/' => return Err((at, Fault::EscapedSlash)),
            byte if byte.is_ascii_control() => return Err((at, Fault::Control)),
            byte => decoded.push(byte),
        }
    }
    if matches!(decoded.as_slice(), b"." | b"..") {
        return Err((
            0,
            Fault::Dots {
                dots: text.to_owned(),
            },
        ));
    }
    String::from_utf8(decoded).map_err(|_| (0, Fault::NotUtf8))
}

/// A parameter's name.
fn read_name(name: &str) -> Found<String> {
    let valid = name
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && name
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit());
    if valid {
        Ok(name.to_owned())
    } else {
        Err((
            0,
            Fault::Name {
                name: name.to_owned(),
            },
        ))
    }
}

#[cfg(test)]
mod tests;

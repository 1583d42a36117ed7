//! Rust text as the rules see it: words, and code without what is written in it.

/// The identifiers, keywords and numbers of a text.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').filter(|word| !word.is_empty())
}

/// The text with comments, strings and characters blanked out, line by line as it was.
pub(crate) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = non_code(rest, code.chars().last());
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().filter(|character| *character == '\n'));
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// How many bytes of a comment, string or character `rest` starts with; 0 when it starts with code.
fn non_code(rest: &str, before: Option<char>) -> usize {
    let until = |start: usize, end: &str| rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    let starts_word = !before.is_some_and(|before| before.is_alphanumeric() || before == '_');
    let hashes = rest.strip_prefix('r').map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    if starts_word && rest.starts_with('r') && rest[1 + hashes..].starts_with('"') {
        return until(2 + hashes, &format!("\"{}", "#".repeat(hashes)));
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        // A character, unless it is a lifetime.
        [b'\'', ..] => {
            let length = rest[1..].chars().next().map_or(0, char::len_utf8);
            if rest[1 + length..].starts_with('\'') { length + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// The length of what stands between two quotes, both included.
fn quoted(rest: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (index, byte) in rest.bytes().enumerate().skip(1) {
        match (escaped, byte) {
            (true, _) => escaped = false,
            (false, b'\\') => escaped = true,
            (false, byte) if byte == quote => return index + 1,
            (false, _) => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_code_is_blanked_and_lines_stay() {
        let text = "a // b\n/* c\n */ d \"e \\\" f\" r#\"g \"h\" \"# i '\"' 'x' '\\'' for<'j> \"\" k";
        let code = code_only(text);
        assert_eq!(words(&code).collect::<Vec<_>>(), ["a", "d", "i", "for", "j", "k"]);
        assert_eq!(code.lines().count(), text.lines().count());
    }
}

//! What can be wrong with a configuration, in words that say what to write instead.

use super::options::ALL;

/// How many known keys are named beside an unknown one.
const SUGGESTIONS: usize = 3;

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No option has this key.
    #[error("read option {key:?}: there is no such option; {}", suggest(nearest))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The known keys that are most like it, best first.
        nearest: Vec<&'static str>,
    },
    /// A value that its option does not allow.
    #[error("read option {key}: {value:?} is not allowed; write {allowed}")]
    Value {
        /// The option.
        key: String,
        /// The value as written.
        value: String,
        /// What may be written.
        allowed: String,
    },
    /// A file gives one option twice.
    #[error("read option {key}: it is given twice; keep one of them")]
    Repeated {
        /// The option.
        key: String,
    },
    /// An override without an equals sign.
    #[error("read override {argument:?}: write it as key=value")]
    Override {
        /// The override as written.
        argument: String,
    },
    /// An option that has no default was not given.
    #[error("read option {key}: it has no default and must be given ({meaning})")]
    Required {
        /// The option.
        key: &'static str,
        /// What it is for.
        meaning: &'static str,
    },
    /// Two options contradict each other.
    #[error("check option {key} ({value}): {rule}")]
    Contradiction {
        /// The option to change.
        key: &'static str,
        /// Its value.
        value: String,
        /// What must hold, with the other option's value.
        rule: String,
    },
}

impl Error {
    /// The error of a key that no option has.
    pub(super) fn unknown_key(key: &str) -> Self {
        let limit = key.len() / 3 + 1;
        let mut candidates: Vec<(usize, &'static str)> = ALL
            .iter()
            .map(|declaration| (likeness(key, declaration.key), declaration.key))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        candidates.sort_unstable();
        let nearest = candidates.into_iter().map(|(_, key)| key).take(SUGGESTIONS).collect();
        Self::UnknownKey { key: key.to_owned(), nearest }
    }
}

fn suggest(nearest: &[&str]) -> String {
    if nearest.is_empty() {
        return "docs/CONFIGURATION.md lists them all".to_owned();
    }
    format!("did you mean {}?", nearest.join(" or "))
}

/// How far apart two keys are: edits, or little when one ends with the other (a forgotten prefix).
fn likeness(written: &str, known: &str) -> usize {
    if !written.is_empty() && (known.ends_with(&format!(".{written}")) || written.ends_with(&format!(".{known}"))) {
        return 1;
    }
    edit_distance(&written.to_lowercase(), &known.to_lowercase())
}

/// Levenshtein's distance: how many bytes to insert, delete or replace.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, left_byte) in left.bytes().enumerate() {
        let mut current = vec![row + 1];
        for (column, right_byte) in right.bytes().enumerate() {
            let replaced = previous[column] + usize::from(left_byte != right_byte);
            current.push(replaced.min(previous[column + 1] + 1).min(current[column] + 1));
        }
        previous = current;
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_misspelt_key_is_answered_with_its_likes() {
        let nearest = |key| {
            let Error::UnknownKey { nearest, .. } = Error::unknown_key(key) else { panic!("an unknown key") };
            nearest
        };
        assert_eq!(nearest("heartbeat.intervall").first(), Some(&"heartbeat.interval"));
        assert_eq!(nearest("taskmanager.numberoftaskslots").first(), Some(&"taskmanager.numberOfTaskSlots"));
        assert_eq!(nearest("client.port").first(), Some(&"coordinator.client.port"));
        assert_eq!(nearest("zzzzzz"), [] as [&str; 0]);
    }
}

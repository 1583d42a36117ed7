//! Takes Tidemill's own arguments out of a program's command line.

use crate::error::Error;

/// A program's command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Arguments {
    /// Where to submit; empty: run in this process.
    pub(crate) coordinators: Vec<String>,
    pub(crate) parallelism: Option<u32>,
    /// `-D key=value`.
    pub(crate) overrides: Vec<String>,
    pub(crate) detached: bool,
    /// Print the plan instead of running it.
    pub(crate) plan: bool,
    /// What is left for the program.
    pub(crate) rest: Vec<String>,
}

impl Arguments {
    /// Everything behind `--` belongs to the program.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                Some(_) | None => (argument.as_str(), None),
            };
            let value = |arguments: &mut dyn Iterator<Item = String>| {
                let value = attached.clone().or_else(|| arguments.next());
                value.ok_or_else(|| Error::Arguments(format!("{name} needs a value")))
            };
            match name {
                "--coordinators" => parsed.coordinators = split_addresses(&value(&mut arguments)?),
                "--parallelism" | "-p" => parsed.parallelism = Some(parallelism(&value(&mut arguments)?)?),
                "-D" => parsed.overrides.push(value(&mut arguments)?),
                "--detached" => parsed.detached = true,
                "--plan" => parsed.plan = true,
                "--" => parsed.rest.extend(arguments.by_ref()),
                other => match other.strip_prefix("-D").filter(|rest| argument.contains('=') && !rest.is_empty()) {
                    Some(_) => parsed.overrides.push(argument[2..].to_owned()),
                    None => parsed.rest.push(argument),
                },
            }
        }
        Ok(parsed)
    }

    /// The value that the last `-D` gives a key.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.overrides.iter().any(|pair| pair.split_once('=').is_some_and(|(name, _)| name.trim() == key))
    }
}

/// `host:port` addresses between commas.
pub(crate) fn split_addresses(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

fn parallelism(text: &str) -> Result<u32, Error> {
    let parsed = text.parse().ok().filter(|parallelism| *parallelism > 0);
    parsed.ok_or_else(|| Error::Arguments(format!("--parallelism {text:?} is no number from 1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, Error> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn own_arguments_are_taken_out_and_the_rest_keeps_its_order() {
        let parsed = parse("in --coordinators a:1,b:2 -p 3 out -D a.b=c --detached --overwrite -Dd=e").unwrap();
        assert_eq!(parsed.coordinators, ["a:1", "b:2"]);
        assert_eq!((parsed.parallelism, parsed.detached, parsed.plan), (Some(3), true, false));
        assert_eq!(parsed.overrides, ["a.b=c", "d=e"]);
        assert_eq!(parsed.rest, ["in", "out", "--overwrite"]);
        assert!(parsed.is_set("d") && !parsed.is_set("e"));
    }

    #[test]
    fn values_may_be_attached_and_a_double_dash_ends_own_arguments() {
        let parsed = parse("--parallelism=2 --other=x --plan -- -p 9 --plan").unwrap();
        assert_eq!((parsed.parallelism, parsed.plan), (Some(2), true));
        assert_eq!(parsed.rest, ["--other=x", "-p", "9", "--plan"]);
    }

    #[test]
    fn a_wrong_argument_is_named() {
        assert_eq!(parse("-p 0").unwrap_err().to_string(), "read arguments: --parallelism \"0\" is no number from 1");
        assert_eq!(parse("-D").unwrap_err().to_string(), "read arguments: -D needs a value");
    }
}

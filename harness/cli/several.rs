use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The scenarios of a command that accepts several.
#[derive(Debug, Clone, clap::Args)]
pub struct SeveralArgs {
    /// The scenario files, the folders with scenario.yaml, or folders with such folders [default: scenario.yaml here or in a parent folder]
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<PathBuf>,
    /// With several scenarios: only those with this text in their paths
    #[arg(long, value_name = "TEXT", requires = "scenarios")]
    pub filter: Option<String>,
    /// With several scenarios: only every Nth of them, from the Kth, such as 1/3 on the first of three machines
    #[arg(long, value_name = "K/N", requires = "scenarios")]
    pub shard: Option<Shard>,
    /// With several scenarios: continue after one that does not pass
    #[arg(long)]
    pub no_fail_fast: bool,
    /// Print only failures and the result
    #[arg(short, long)]
    pub quiet: bool,
}

/// A part of several scenarios: every `count`th, from the one at `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// The number of the part, from 1.
    pub number: usize,
    /// The number of all parts.
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(number, count)| Some((number.parse().ok()?, count.parse().ok()?)));
        match parts {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err("expected a number and how many there are, such as 1/3".to_owned()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.number, self.count)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::first("1/3", Some((1, 3)))]
    #[case::last("3/3", Some((3, 3)))]
    #[case::beyond("4/3", None)]
    #[case::none("0/3", None)]
    #[case::of_nothing("0/0", None)]
    #[case::no_number("a/3", None)]
    #[case::no_count("1", None)]
    fn a_part_has_a_number_up_to_the_count(#[case] text: &str, #[case] expected: Option<(usize, usize)>) {
        assert_eq!(text.parse::<Shard>().ok().map(|shard| (shard.number, shard.count)), expected);
    }
}

/// Coloured text for a terminal, or plain text.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Whether the output has colours.
    pub colour: bool,
}

impl Marks {
    pub(super) fn good(self, text: &str) -> String {
        if self.colour { format!("\x1b[32m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn bad(self, text: &str) -> String {
        if self.colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(super) fn unsure(self, text: &str) -> String {
        if self.colour { format!("\x1b[1;33m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// `ok`, or `FAIL` if a check failed.
    pub(super) fn verdict(self, passed: bool) -> String {
        if passed { self.good("ok") } else { self.bad("FAIL") }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn undecided_has_a_colour_of_its_own() {
        let shown = |colour: bool| {
            let marks = Marks { colour };
            [marks.good("word"), marks.bad("word"), marks.unsure("word")]
        };
        assert_eq!(BTreeSet::from(shown(true)).len(), 3);
        assert_eq!(shown(false), ["word", "word", "word"]);
    }
}

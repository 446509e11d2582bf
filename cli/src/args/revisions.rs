//! What one can type about revisions of functions.

use clap::Args;
use engine_model::{Kind, Share};

use super::services::Named;

/// `rollback`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch rollback function pg-example --wait\n  dispatch rollback \
    function pg-example --to 3"
)]
pub struct Rollback {
    /// A function
    #[command(flatten)]
    pub named: Named,
    /// The revision whose document it is to have again [default: the newest loaded one with another
    /// document]
    #[arg(long, value_name = "REVISION")]
    pub to: Option<u32>,
    /// Wait until the new revision is loaded, or cannot be
    #[arg(long)]
    pub wait: bool,
}

/// `route`
#[derive(Debug, Args)]
#[command(
    after_help = "EXAMPLES:\n  dispatch route function pg-example 3=90 4=10\n  dispatch route \
    function pg-example --latest"
)]
pub struct Route {
    /// The kind, which may be left out, the name, and shares such as 3=90: revision and percentage
    #[arg(num_args = 1.., required = true, value_names = ["FUNCTION", "REVISION=PERCENT"])]
    pub words: Vec<String>,
    /// All runs to the newest loaded revision, from now on
    #[arg(long)]
    pub latest: bool,
}

impl Route {
    /// The function, and how its runs are to be divided.
    ///
    /// # Errors
    /// A text that says what is wrong with the words.
    pub fn read(self) -> Result<(String, Vec<Share>), String> {
        // A name has no '='.
        let (shares, words) = self.words.into_iter().partition(|word| word.contains('='));
        let named = Named { words };
        let (_, name) = named.of(&[Kind::Function])?;
        let shares: Vec<String> = shares;
        if shares.is_empty() != self.latest {
            return Err("say shares such as 3=90 4=10, or --latest".into());
        }
        let shares: Result<Vec<Share>, String> = shares.iter().map(|word| share(word)).collect();
        Ok((name.to_owned(), shares?))
    }
}

fn share(word: &str) -> Result<Share, String> {
    let parts = word.split_once('=');
    let percent = |text: &str| text.strip_suffix('%').unwrap_or(text).parse().ok();
    let read = parts.and_then(|(revision, share)| {
        Some(Share {
            revision: revision.parse().ok()?,
            percent: percent(share).filter(|percent| (1..=100).contains(percent))?,
        })
    });
    read.ok_or_else(|| {
        format!("'{word}' is no share: 3=90 gives revision 3 ninety of a hundred runs")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str], latest: bool) -> Result<(String, Vec<Share>), String> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Route { words, latest }.read()
    }

    #[test]
    fn shares_are_told_from_kind_and_name() {
        let share = |revision, percent| Share { revision, percent };
        let both = vec![share(3, 90), share(4, 10)];
        assert_eq!(
            read(&["function", "f", "3=90", "4=10%"], false),
            Ok(("f".into(), both.clone()))
        );
        assert_eq!(read(&["f", "3=90", "4=10"], false), Ok(("f".into(), both)));
        assert_eq!(read(&["function", "f"], true), Ok(("f".into(), vec![])));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (words, latest) in [
            (&["f"][..], false),
            (&["f", "3=90"], true),
            (&["f", "3=0"], false),
            (&["f", "3=101"], false),
            (&["f", "x=90"], false),
            (&["f", "=90"], false),
            (&["3=90"], false),
            (&["image", "f", "3=100"], false),
            (&["function", "f", "g", "3=100"], false),
        ] {
            assert!(read(words, latest).is_err(), "{words:?}");
        }
    }
}

//! The purposes that accept only JSON lines, and how a file's name and content are checked for them.

use super::{BadLine, Filename, JsonLines, Purpose};

/// The maximum number of requests in a batch, one per line.
const BATCH_REQUESTS: u64 = 50_000;

/// What is checked of a file whose purpose takes JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JsonlCheck {
    /// Nothing.
    Off,
    /// Its name.
    #[default]
    Name,
    /// Its name, and each of its lines.
    Lines,
}

/// A file that its purpose does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJsonl {
    /// Its name does not end in `.jsonl`. The message is OpenAI's, with the name added.
    #[error("invalid file format for {api} API. Must be .jsonl, but the file is named '{}'", filename.as_str())]
    Name {
        /// The API that reads such files.
        api: &'static str,
        /// The file's name.
        filename: Filename,
    },
    /// One of its lines is not a JSON object.
    #[error("{line}; a file for the purpose '{purpose}' must have one JSON object per line")]
    Line {
        /// What the file is for.
        purpose: Purpose,
        /// Which line, and what is wrong with it.
        line: BadLine,
    },
    /// It has too many lines.
    #[error(
        "line {} exceeds the limit: a file for the purpose 'batch' may have at most {BATCH_REQUESTS} requests, one per \
         line",
        BATCH_REQUESTS + 1
    )]
    TooManyRequests,
}

/// The API that reads files of this purpose, if they are JSON lines.
fn api(purpose: Purpose) -> Option<&'static str> {
    match purpose {
        Purpose::Batch => Some("Batch"),
        Purpose::FineTune => Some("Fine-Tuning"),
        Purpose::Assistants | Purpose::Vision | Purpose::UserData | Purpose::Evals => None,
    }
}

impl JsonlCheck {
    /// Checks a file's name against its purpose. The case of its extension is ignored.
    ///
    /// # Errors
    /// When the purpose takes JSON lines only, and the name does not end in `.jsonl`.
    pub fn check_name(self, purpose: Purpose, filename: &Filename) -> Result<(), NotJsonl> {
        let (Self::Name | Self::Lines, Some(api)) = (self, api(purpose)) else { return Ok(()) };
        let name = filename.as_str().as_bytes();
        if name.last_chunk().is_some_and(|it: &[u8; 6]| it.eq_ignore_ascii_case(b".jsonl")) {
            return Ok(());
        }
        Err(NotJsonl::Name { api, filename: filename.clone() })
    }

    /// Whether the lines of a file are to be checked, which may depend on a purpose that is not known yet.
    pub fn reads_lines(self, purpose: Option<Purpose>) -> bool {
        self == Self::Lines && purpose.is_none_or(|it| api(it).is_some())
    }
}

impl NotJsonl {
    /// Checks the lines seen so far of a file for this purpose.
    ///
    /// # Errors
    /// When the purpose takes JSON lines only, and a line is invalid or there are too many.
    pub fn judge(purpose: Purpose, lines: &JsonLines) -> Result<(), Self> {
        if api(purpose).is_none() {
            return Ok(());
        }
        let most = if purpose == Purpose::Batch { BATCH_REQUESTS } else { u64::MAX };
        match lines.bad() {
            // The first invalid line is reported, however the bytes arrived.
            Some(line) if line.line <= most => Err(Self::Line { purpose, line: line.clone() }),
            _ if lines.objects() > most => Err(Self::TooManyRequests),
            Some(line) => Err(Self::Line { purpose, line: line.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(check: JsonlCheck, purpose: Purpose, name: &str) -> Result<(), String> {
        check.check_name(purpose, &name.parse().unwrap()).map_err(|it| it.to_string())
    }

    #[test]
    fn batch_and_fine_tune_take_names_that_end_in_jsonl_in_any_case() {
        for check in [JsonlCheck::Name, JsonlCheck::Lines] {
            for purpose in [Purpose::Batch, Purpose::FineTune] {
                for right in ["a.jsonl", "A.JSONL", "b.JsonL", ".jsonl", "dir/c.tar.jsonl", "你好.jsonl"] {
                    assert_eq!(name(check, purpose, right), Ok(()));
                }
                for wrong in ["a.json", "a.jsonl.gz", "jsonl", "a.jsonl ", "a_jsonl", "a.ſonl", "好", "upload"] {
                    let error = name(check, purpose, wrong).unwrap_err();
                    assert!(error.ends_with(&format!("Must be .jsonl, but the file is named '{wrong}'")), "{error}");
                }
            }
            for purpose in [Purpose::Assistants, Purpose::Vision, Purpose::UserData, Purpose::Evals] {
                assert_eq!(name(check, purpose, "a.json"), Ok(()));
            }
        }
        assert_eq!(name(JsonlCheck::Off, Purpose::Batch, "a.json"), Ok(()));
        let error = name(JsonlCheck::Name, Purpose::FineTune, "a.txt").unwrap_err();
        assert!(error.starts_with("invalid file format for Fine-Tuning API. Must be .jsonl"), "{error}");
    }

    #[test]
    fn lines_are_read_only_where_the_purpose_may_be_one_that_takes_them() {
        assert!(JsonlCheck::Lines.reads_lines(None));
        assert!(JsonlCheck::Lines.reads_lines(Some(Purpose::Batch)));
        assert!(JsonlCheck::Lines.reads_lines(Some(Purpose::FineTune)));
        assert!(!JsonlCheck::Lines.reads_lines(Some(Purpose::UserData)));
        assert!(!JsonlCheck::Name.reads_lines(None));
        assert!(!JsonlCheck::Off.reads_lines(Some(Purpose::Batch)));
    }

    fn judged(purpose: Purpose, text: &str) -> Result<(), NotJsonl> {
        let mut lines = JsonLines::default();
        lines.take(text.as_bytes());
        lines.end();
        NotJsonl::judge(purpose, &lines)
    }

    #[test]
    fn a_batch_has_at_most_50_000_requests_and_the_first_wrong_line_is_the_one_that_is_named() {
        let most = "{}\n".repeat(50_000);
        assert_eq!(judged(Purpose::Batch, &most), Ok(()));
        assert_eq!(judged(Purpose::Batch, most.trim_end()), Ok(()));
        let more = most.clone() + "{}\n";
        assert_eq!(judged(Purpose::FineTune, &more), Ok(()));
        let error = judged(Purpose::Batch, &more).unwrap_err();
        assert_eq!(error, NotJsonl::TooManyRequests);
        assert!(error.to_string().starts_with("line 50001 exceeds the limit: "), "{error}");
        // The first of two errors is reported.
        assert_eq!(judged(Purpose::Batch, &(more.clone() + "[]\n")), Err(NotJsonl::TooManyRequests));
        assert_eq!(judged(Purpose::Batch, &(most.clone() + "{]\n")), Err(NotJsonl::TooManyRequests));
        let error = judged(Purpose::Batch, &("[]\n".to_owned() + &more)).unwrap_err().to_string();
        assert!(error.starts_with("line 1 is not a JSON object: "), "{error}");
        assert!(error.ends_with("; a file for the purpose 'batch' must have one JSON object per line"), "{error}");
        let error = judged(Purpose::Batch, &(most + "[]\n")).unwrap_err().to_string();
        assert!(error.starts_with("line 50001 is not a JSON object: "), "{error}");
    }

    #[test]
    fn other_purposes_take_any_lines() {
        assert_eq!(judged(Purpose::UserData, "[]\nx"), Ok(()));
        assert_eq!(judged(Purpose::Evals, "[]\nx"), Ok(()));
    }
}

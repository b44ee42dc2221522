//! Counts tests by reading what libtest prints.
//! Runs nothing.

/// What one part, or all of them, came to.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
    /// Why each skipped test did not run here.
    pub skipped: Vec<String>,
    /// Names of the failed tests.
    pub failures: Vec<String>,
    /// What was said when a thread panicked, thread by thread: where, and the first lines of why.
    panics: Vec<(String, String)>,
    /// Lines that the last of them may still get.
    more: usize,
}

/// Lines of one panic that are repeated at the end of the run, and characters of one line.
const PANIC_LINES_MAX: usize = 12;
const PANIC_LINE_LEN_MAX: usize = 400;

impl Count {
    /// A check that is no libtest: formatting, lints.
    pub fn check(name: &str, good: bool) -> Self {
        let mut count = Self::default();
        if good {
            count.passed = 1;
        } else {
            count.failed = 1;
            count.failures.push(name.to_owned());
        }
        count
    }

    /// Takes in one line of a test program's output.
    ///
    /// A test that cannot run here prints `SKIPPED: reason` and returns; libtest calls that passed, we do not.
    pub fn line(&mut self, line: &str) {
        self.panic_line(line);
        if let Some((_, reason)) = line.split_once("SKIPPED: ") {
            self.skipped.push(reason.trim().to_owned());
            return;
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            return;
        }
        let Some(rest) = line.strip_prefix("test ") else {
            return;
        };
        if let Some(name) = rest.strip_suffix(" ... FAILED") {
            self.failures.push(name.to_owned());
        } else if let Some((name, why)) = rest.split_once(" ... ignored") {
            let why = why.trim_start_matches(',').trim();
            let why = if why.is_empty() { "ignored" } else { why };
            self.skipped.push(format!("{name}: {why}"));
        }
    }

    /// Keeps what a panic says: libtest prints it far above the end of a long run.
    fn panic_line(&mut self, line: &str) {
        let begins = line.strip_prefix("thread '").and_then(|rest| {
            let (name, rest) = rest.split_once('\'')?;
            let (_, place) = rest.split_once(" panicked at ")?;
            Some((name.to_owned(), place.trim_end_matches(':').to_owned()))
        });
        if let Some(panic) = begins {
            self.panics.push(panic);
            self.more = PANIC_LINES_MAX;
            return;
        }
        if self.more == 0 {
            return;
        }
        if line.starts_with("stack backtrace:") || line.starts_with("note: run with") {
            self.more = 0;
        } else if let Some((_, words)) = self.panics.last_mut() {
            let line: String = line.chars().take(PANIC_LINE_LEN_MAX).collect();
            words.push_str("\n    ");
            words.push_str(&line);
            self.more -= 1;
        }
    }

    /// The failed tests, each with what it said.
    pub fn failures_told(&self) -> Vec<String> {
        let told = |name: &String| {
            let said = self.panics.iter().filter(|(thread, _)| thread == name);
            let said = said.map(|(_, words)| format!("\n  {words}"));
            format!("{name}{}", said.collect::<String>())
        };
        self.failures.iter().map(told).collect()
    }

    /// Called when the program has ended. A test that skipped itself was counted as passed until now, and a program
    /// that ended badly without a failed test (it did not compile, it was killed) is one failure.
    pub fn ended(&mut self, part: &str, good: bool, ignored: u64) {
        let by_themselves = self.skipped.len() as u64 - ignored.min(self.skipped.len() as u64);
        self.passed = self.passed.saturating_sub(by_themselves);
        if !good && self.failed == 0 {
            self.failed = 1;
            self.failures
                .push(format!("{part} (did not compile, or was ended)"));
        }
    }

    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.failures.extend(other.failures);
        self.panics.extend(other.panics);
    }

    /// The last line of the command.
    pub fn summary(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed,
            self.skipped.len()
        )
    }
}

/// How many tests libtest itself ignored, by a `test result:` line.
pub fn ignored(line: &str) -> u64 {
    line.strip_prefix("test result: ")
        .map_or(0, |result| number_before(result, " ignored"))
}

fn number_before(text: &str, word: &str) -> u64 {
    let Some((before, _)) = text.split_once(word) else {
        return 0;
    };
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|d| d.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, good: bool) -> Count {
        let mut count = Count::default();
        let mut without = 0;
        for line in text.lines() {
            count.line(line);
            without += ignored(line);
        }
        count.ended("part", good, without);
        count
    }

    #[test]
    fn a_green_run_is_counted() {
        let count = read(
            "running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            true,
        );
        assert_eq!(count.summary(), "2 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn a_test_that_skipped_itself_is_not_passed() {
        let count = read(
            "SKIPPED: mysql: no server here\ntest a ... ok\ntest b ... ok\n\
             test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            true,
        );
        assert_eq!(count.summary(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(count.skipped, ["mysql: no server here"]);
    }

    #[test]
    fn an_ignored_test_is_skipped_with_its_reason() {
        let count = read(
            "test a ... ignored, takes an hour\ntest b ... ok\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
            true,
        );
        assert_eq!(count.summary(), "1 passed, 0 failed, 1 skipped");
        assert_eq!(count.skipped, ["a: takes an hour"]);
    }

    #[test]
    fn failures_are_named() {
        let count = read(
            "test a ... FAILED\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured",
            false,
        );
        assert_eq!(count.summary(), "3 passed, 1 failed, 0 skipped");
        assert_eq!(count.failures, ["a"]);
    }

    /// Goal: who reads the end of a long run knows why a test failed. Method: output as libtest prints it, with a backtrace.
    #[test]
    fn what_a_failed_test_said_is_told_at_the_end() {
        let count = read(
            "test a::b ... FAILED\n\nfailures:\n\n---- a::b stdout ----\n\n\
             thread 'a::b' (24431) panicked at tests/a.rs:401:5:\nassertion `left == right` failed\n  left: 1\n right: 2\n\
             stack backtrace:\n   0: __rustc::rust_begin_unwind\n\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured",
            false,
        );
        let told = "a::b\n  tests/a.rs:401:5\n    assertion `left == right` failed\n      left: 1\n     right: 2";
        assert_eq!(count.failures_told(), [told]);
    }

    #[test]
    fn a_program_that_does_not_compile_is_a_failure() {
        let count = read("error[E0425]: cannot find value", false);
        assert_eq!(count.summary(), "0 passed, 1 failed, 0 skipped");
    }
}

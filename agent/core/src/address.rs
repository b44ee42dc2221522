//! Under which address a message goes upstream: the customer's number, or the user id that the upstream gave us for it.
//! Looks nothing up: `agent/src/coreapp/address.rs` does, in the table of `agent/src/db/customer.rs`.

use crate::time::Duration;

/// Numbers are given to other people. One that the upstream told together with the user id for so long is surely still the
/// customer's: the upstream shows it for as long itself.
pub const NUMBER_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Which address the client named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Named {
    /// A user id.
    User,
    /// An alias of ours, which stands for a user id.
    Alias,
    /// A number that we know only from earlier: the upstream does not tell it any more.
    Remembered,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    User,
    Number,
}

/// Which of the two is used. `told_together`: how long ago one webhook carried both; `None`: no number is known.
/// `needs_number`: the upstream takes this message for a number only (131062).
pub fn choose(named: Named, told_together: Option<Duration>, needs_number: bool) -> Use {
    let Some(ago) = told_together else {
        return Use::User;
    };
    let sure = match named {
        Named::User => false,
        Named::Alias | Named::Remembered => ago <= NUMBER_KEPT,
    };
    match sure || needs_number {
        true => Use::Number,
        false => Use::User,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing goes to a number that may be somebody else's by now, but for what no user id can get. Method: every name,
    /// around the limit.
    #[test]
    fn a_number_is_used_for_thirty_days() {
        let (young, old) = (NUMBER_KEPT, NUMBER_KEPT + Duration::from_millis(1));
        for (named, ago, needs_number, wanted) in [
            (Named::User, Some(Duration::ZERO), false, Use::User),
            (Named::User, Some(old), true, Use::Number),
            (Named::User, None, true, Use::User),
            (Named::Alias, Some(young), false, Use::Number),
            (Named::Alias, Some(old), false, Use::User),
            (Named::Alias, None, false, Use::User),
            (Named::Remembered, Some(young), false, Use::Number),
            (Named::Remembered, Some(old), false, Use::User),
            (Named::Remembered, Some(old), true, Use::Number),
        ] {
            let found = choose(named, ago, needs_number);
            assert_eq!(found, wanted, "{named:?} {ago:?} {needs_number}");
        }
    }
}

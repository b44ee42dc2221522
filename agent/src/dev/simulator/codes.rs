//! The vendor's error codes that the simulator can say: HTTP status and title of each.
//! Says nothing of what the product makes of them.

/// One code.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    pub code: u32,
    /// HTTP status of an answer that says it.
    pub http: u16,
    pub title: &'static str,
}

const fn known(code: u32, http: u16, title: &'static str) -> Known {
    Known { code, http, title }
}

/// All of them, by number.
#[rustfmt::skip]
pub const CODES: &[Known] = &[
    known(0, 401, "AuthException"),
    known(1, 500, "API Unknown"),
    known(2, 503, "API Service"),
    known(3, 403, "API Method"),
    known(4, 400, "API Too Many Calls"),
    known(10, 403, "Permission Denied"),
    known(33, 400, "Parameter value is not valid"),
    known(100, 400, "Invalid parameter"),
    known(190, 401, "Access token has expired"),
    known(200, 403, "API Permission"),
    known(368, 403, "Temporarily blocked for policies violations"),
    known(80_007, 400, "Rate limit issues"),
    known(130_403, 400, "Recipient is blocked by the business"),
    known(130_429, 429, "Rate limit hit"),
    known(130_472, 400, "User's number is part of an experiment"),
    known(130_497, 403, "Business account is restricted from messaging users in this country"),
    known(131_000, 500, "Something went wrong"),
    known(131_005, 403, "Access denied"),
    known(131_008, 400, "Required parameter is missing"),
    known(131_009, 400, "Parameter value is not valid"),
    known(131_016, 500, "Service unavailable"),
    known(131_021, 400, "Recipient cannot be sender"),
    known(131_026, 400, "Message undeliverable"),
    known(131_030, 400, "Recipient phone number not in allowed list"),
    known(131_031, 403, "Business Account has been locked"),
    known(131_037, 400, "Display name of the number is not approved"),
    known(131_042, 400, "Business eligibility payment issue"),
    known(131_045, 500, "Incorrect certificate"),
    known(131_047, 400, "Re-engagement message"),
    known(131_048, 400, "Spam rate limit hit"),
    known(131_049, 400, "This message was not delivered to maintain healthy ecosystem engagement"),
    known(131_050, 400, "The recipient has stopped receiving marketing messages from this business"),
    known(131_051, 400, "Unsupported message type"),
    known(131_052, 400, "Media download error"),
    known(131_053, 400, "Media upload error"),
    known(131_055, 400, "Method not allowed"),
    known(131_056, 429, "(Business Account, Consumer Account) pair rate limit hit"),
    known(131_057, 500, "Business Account is in maintenance mode"),
    known(131_062, 400, "This message cannot be sent to a business-scoped user id"),
    known(131_063, 400, "Marketing templates are switched off on this surface"),
    known(131_064, 400, "Classification limit hit"),
    known(132_000, 400, "Template Param Count Mismatch"),
    known(132_001, 404, "Template does not exist"),
    known(132_005, 400, "Template Hydrated Text Too Long"),
    known(132_007, 400, "Template Format Character Policy Violated"),
    known(132_012, 400, "Template Parameter Format Mismatch"),
    known(132_015, 400, "Template is Paused"),
    known(132_016, 400, "Template is Disabled"),
    known(132_018, 400, "Template parameters are not valid"),
    known(132_068, 400, "Flow is in blocked state"),
    known(132_069, 400, "Flow is in throttled state"),
    known(133_000, 500, "Incomplete Deregistration"),
    known(133_004, 503, "Server Temporarily Unavailable"),
    known(133_005, 400, "Two step verification PIN Mismatch"),
    known(133_006, 400, "Phone number re-verification needed"),
    known(133_008, 400, "Too many two step verification PIN guesses"),
    known(133_009, 400, "Two step verification PIN guessed too fast"),
    known(133_010, 400, "Phone number not registered"),
    known(133_015, 400, "Wait a few minutes before attempting to register this phone number"),
    known(133_016, 400, "Account register deregister rate limit exceeded"),
    known(134_101, 400, "Template is syncing"),
    known(135_000, 400, "Generic user error"),
    known(136_024, 400, "Request code error"),
    known(136_025, 400, "Verify code error"),
    known(137_000, 400, "Identity of the user has changed"),
    known(139_100, 400, "Failed to block or unblock users"),
    known(139_101, 400, "Failed to block or unblock users: the list is full"),
];

/// The row of a code.
pub fn find(code: u32) -> Option<&'static Known> {
    let at = CODES.binary_search_by_key(&code, |known| known.code);
    at.ok().and_then(|at| CODES.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every row can be found. Method: the order that the search needs, and both ends.
    #[test]
    fn the_table_is_in_order() {
        assert!(CODES.is_sorted_by(|a, b| a.code < b.code));
        assert!(CODES.iter().all(|known| find(known.code) == Some(known)));
        assert!(CODES.iter().all(|known| known.http >= 400));
        assert_eq!(find(5), None);
    }
}

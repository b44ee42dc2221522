//! The error codes of the public API: number, documented title and HTTP status. Nobody writes these numbers elsewhere
//! (`tests/tidy.rs` holds it).
//! Says what a code is, not when it is answered.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One row a code: name, number, title, HTTP status. `None` for codes that only arrive in a `failed` status.
macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal, $status:expr;)*) => {
        /// Every documented code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $title] $name = $number,)*
        }

        impl Code {
            /// All of them, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code of a number that came from elsewhere; `None`: it is not documented.
            pub fn of(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its documented title.
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }

            fn status(self) -> Option<u16> {
                match self {
                    $(Self::$name => $status,)*
                }
            }
        }
    };
}

#[rustfmt::skip]
codes! {
    MediaDownload = 400, "Media download error", None;
    PaymentIssue = 402, "Business eligibility, payment issue", None;
    MessageNotValid = 408, "Message is not valid", None;
    MessageExpired = 410, "Message expired", None;
    RateLimitHit = 429, "Rate limit hit", None;
    UnsignedCertificate = 430, "Unsigned certificate", None;
    CertificateIdMismatch = 432, "Certificate ID mismatch", None;
    CertificateSignatureNotValid = 433, "Certificate signature invalid", None;
    ReEngagement = 470, "Re-engagement message", None;
    SpamRateLimitHit = 471, "Spam rate limit hit", None;
    UserInExperiment = 472, "User's number is part of an experiment", None;
    UserPotentiallyChanged = 480, "User potentially changed", None;
    Generic = 500, "Generic error", None;
    TypeNotSupported = 501, "Message type is not currently supported", None;
    GenericError = 1000, "Generic error", Some(500);
    TooLong = 1001, "Message too long", Some(400);
    RecipientTypeNotValid = 1002, "Invalid recipient type", Some(400);
    NotInGroup = 1003, "Not a group participant", Some(403);
    AlreadyExists = 1004, "Resource already exists", Some(409);
    AccessDenied = 1005, "Access denied", Some(403);
    NotFound = 1006, "Resource not found", Some(404);
    RecipientBlocked = 1007, "Recipient blocked to receive message", Some(403);
    ParameterMissing = 1008, "Required parameter is missing", Some(400);
    ParameterNotValid = 1009, "Parameter value is not valid", Some(400);
    ParameterNotRequired = 1010, "Parameter is not required", Some(400);
    NotReady = 1011, "Service not ready", Some(503);
    GroupUnknown = 1012, "Group is unknown", Some(404);
    UserNotValid = 1013, "User is not valid", Some(404);
    Internal = 1014, "Internal error", Some(500);
    TooManyRequests = 1015, "Too many requests", Some(429);
    Overloaded = 1016, "System overloaded", Some(503);
    NotPrimaryMaster = 1017, "Not Primary Master", Some(503);
    NotPrimaryCoreapp = 1018, "Not Primary Coreapp", Some(503);
    BadUser = 1021, "Bad User", Some(400);
    NoWebhookUrl = 1022, "Webhooks URL is not configured", Some(400);
    Database = 1023, "Database error occurred", Some(500);
    PasswordChangeRequired = 1024, "Password Change Required", Some(401);
    InvalidRequest = 1025, "Invalid Request", Some(400);
    ReceiverIncapable = 1026, "Receiver incapable", None;
    IdentityNotAcknowledged = 1028, "user_identity_changed needs acknowledgement", Some(400);
    SenderLocked = 1031, "Sender account has been locked", Some(403);
    TemplateParameterCount = 2000, "Template Param Count Mismatch", Some(400);
    TemplateMissing = 2001, "Template Missing", Some(404);
    TemplateFetchFailed = 2002, "Template Fetch Failed", None;
    TemplatePackMissing = 2003, "Template Pack Missing", None;
    ParameterTooLong = 2004, "Param Length Too Long", Some(400);
    HydratedTextTooLong = 2005, "Hydrated Text Too Long", Some(400);
    WhiteSpacePolicy = 2006, "White Space Policy Violated", Some(400);
    FormatCharacterPolicy = 2007, "Format Character Policy Violated", Some(400);
    MediaFormatUnsupported = 2008, "Media Format Unsupported", Some(400);
    ComponentMissing = 2009, "Required Component Missing", Some(400);
    HydratedUrlNotValid = 2010, "Invalid Hydrated URL", Some(400);
    PhoneNumberNotValid = 2011, "Invalid Phone Number", Some(400);
    ParameterFormatMismatch = 2012, "Parameter Format Mismatch", Some(400);
    ButtonsUnsupported = 2013, "Buttons Unsupported", Some(400);
    NamespaceEmpty = 2014, "Expected Namespace is Empty", Some(400);
    SectionCountNotValid = 2015, "Invalid number of sections", Some(400);
    RowCountNotValid = 2016, "Invalid number of rows", Some(400);
    CharacterPolicy = 2017, "Character Policy Violated", Some(400);
    HeaderStructureNotValid = 2036, "Invalid Header Structure", Some(400);
    ContactNotEngaged = 2048, "Not engaged contact", Some(400);
    ComplianceInfoMissing = 2050, "Missing Compliance Info", Some(400);
    TemplateRejected = 2060, "Template Rejected", Some(400);
    TemplatePaused = 2061, "Template Paused", Some(400);
    TemplateDisabled = 2062, "Template Disabled", Some(400);
    FlowBlocked = 2068, "Flow is blocked", Some(400);
    FlowThrottled = 2069, "Flow is throttled", Some(400);
}

impl Code {
    /// Its number, in answers, callbacks and rows.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The HTTP status of an answer with it; 500 for codes that only arrive in a `failed` status.
    pub fn http_status(self) -> u16 {
        self.status().unwrap_or(500)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for Code {
    /// A number that this release does not know, from a newer one, is the generic error.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Ok(Self::of(number).unwrap_or(Self::GenericError))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_doubles_and_has_possible_statuses() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        for code in Code::ALL {
            assert!(!code.title().is_empty(), "{code}");
            assert!((400..600).contains(&code.http_status()), "{code}");
            assert_eq!(Code::of(code.number().into()), Some(*code));
        }
    }

    /// Goal: numbers, titles and statuses are the documented ones. Method: some of each kind, written down by hand.
    #[test]
    fn documented_codes_have_their_titles_and_statuses() {
        for (number, title, status) in [
            (470, "Re-engagement message", 500),
            (501, "Message type is not currently supported", 500),
            (1001, "Message too long", 400),
            (1005, "Access denied", 403),
            (1008, "Required parameter is missing", 400),
            (1009, "Parameter value is not valid", 400),
            (1015, "Too many requests", 429),
            (1016, "System overloaded", 503),
            (1018, "Not Primary Coreapp", 503),
            (1024, "Password Change Required", 401),
            (2061, "Template Paused", 400),
        ] {
            let code = Code::of(number).unwrap_or_else(|| panic!("{number}"));
            assert_eq!((code.title(), code.http_status()), (title, status));
        }
        for unknown in [0, 401, 999, 1019, 1020, 1027, 1029, 1030, 2099, 1 << 40] {
            assert_eq!(Code::of(unknown), None);
        }
    }

    #[test]
    fn a_code_is_a_number_on_the_wire() {
        let written = serde_json::to_string(&Code::ParameterNotValid).expect("plain data");
        assert_eq!(written, "1009");
        let read = |text| serde_json::from_str::<Code>(text).ok();
        assert_eq!(read("1018"), Some(Code::NotPrimaryCoreapp));
        assert_eq!(read("4711"), Some(Code::GenericError));
        assert_eq!(read("\"1018\""), None);
    }
}

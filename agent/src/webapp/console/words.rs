//! What the console calls things, in each of its languages.
//! Sentences of the cluster itself (problems, decisions) are English in all of them: they are what journals and manuals say.

use std::borrow::Cow;

/// A language of the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    English,
    Arabic,
    /// English words with accents and longer by a third, from right to left: it shows what was written without a label, and what
    /// does not fit. For tests and for whoever adds a language.
    Pseudo,
}

impl Tongue {
    /// Those that people may choose.
    pub const OFFERED: [Self; 2] = [Self::English, Self::Arabic];

    /// By its tag (BCP 47); unknown ones are English.
    pub fn of(tag: &str) -> Self {
        match tag {
            "ar" => Self::Arabic,
            "qps" => Self::Pseudo,
            _ => Self::English,
        }
    }

    /// Its tag (BCP 47).
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Arabic => "ar",
            Self::Pseudo => "qps",
        }
    }

    /// Which way it is read.
    pub fn direction(self) -> &'static str {
        match self {
            Self::English => "ltr",
            Self::Arabic | Self::Pseudo => "rtl",
        }
    }

    /// Its own name for itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Arabic => "العربية",
            Self::Pseudo => "Pseudo",
        }
    }

    /// A label in this language.
    pub fn say(self, word: Word) -> Cow<'static, str> {
        match self {
            Self::English => word.english().into(),
            Self::Arabic => word.arabic().into(),
            Self::Pseudo => pseudo(word.english()).into(),
        }
    }
}

/// English that no English page holds: accents on its vowels, and longer by a third.
fn pseudo(english: &str) -> String {
    let accented = english.chars().map(|letter| match letter {
        'a' => 'á',
        'e' => 'é',
        'i' => 'í',
        'o' => 'ó',
        'u' => 'ú',
        'A' => 'Á',
        'E' => 'É',
        'I' => 'Í',
        'O' => 'Ó',
        'U' => 'Ú',
        other => other,
    });
    let longer = "~".repeat(english.chars().count().div_ceil(3));
    format!("[{}{longer}]", accented.collect::<String>())
}

macro_rules! words {
    ($($word:ident $english:literal $arabic:literal;)*) => {
        /// One label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Word {
            $($word),*
        }

        impl Word {
            /// All of them.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$word),*];

            fn english(self) -> &'static str {
                match self {
                    $(Self::$word => $english),*
                }
            }

            fn arabic(self) -> &'static str {
                match self {
                    $(Self::$word => $arabic),*
                }
            }
        }
    };
}

words! {
    Accepted "Accepted" "مقبولة";
    Ack "Lift the anti-flap block" "رفع حظر التحويل المتكرر";
    AckServer "Accept the new database server" "قبول خادم قاعدة البيانات الجديد";
    Acts "What you can do" "ما يمكنك فعله";
    Adopt "Adopt the restored database" "اعتماد قاعدة البيانات المستعادة";
    All "all" "الكل";
    AllIsWell "Nothing is wrong" "لا توجد مشكلة";
    Ambiguous "Outcome not known" "نتيجتها غير معروفة";
    Attempts "Attempts" "المحاولات";
    BackWithoutChange "Back, without a change" "رجوع دون تغيير";
    Backup "Standby" "احتياطي";
    Beat "Database beat" "نبضة قاعدة البيانات";
    Callbacks "Callbacks waiting" "إشعارات منتظرة";
    CancelSwitchover "Cancel the planned switchover" "إلغاء النقل المخطط";
    Cluster "Cluster" "المجموعة";
    Decision "Decision" "القرار";
    Delivered "Delivered" "سُلّمت";
    Diagnosis "Diagnosis" "التشخيص";
    Drain "Drain" "تفريغ";
    Epoch "Epoch" "الحقبة";
    Event "Event" "الحدث";
    Evidence "What was known" "ما كان معروفا";
    Failed "Failed" "فشلت";
    Failover "Replace the owner" "استبدال المالك";
    Filter "Filter" "تصفية";
    Find "Find" "بحث";
    FindMessage "Message id or recipient" "رقم الرسالة أو المستلم";
    Followed "What followed" "ما تلا ذلك";
    Forget "Forget" "نسيان العقدة";
    Found "Found messages" "الرسائل الموجودة";
    Gate "Gate" "البوابة";
    Health "Health" "الحالة";
    Heartbeat "Heartbeat" "نبضة القلب";
    IfItDied "If it died now" "إذا توقف الآن";
    InMinutes "In how many minutes (empty: now)" "بعد كم دقيقة (فارغ: الآن)";
    Language "Language" "اللغة";
    LastMinutes "last 15 minutes" "آخر ١٥ دقيقة";
    LeaseMargin "Lease margin" "المتبقي من الحجز";
    Live "live" "مباشر";
    LogIn "Log in" "تسجيل الدخول";
    LogOut "Log out" "تسجيل الخروج";
    Machines "Machines and nodes" "الأجهزة والعقد";
    Message "Message" "الرسالة";
    Messages "Messages" "الرسائل";
    Minutes "For how many minutes" "لكم دقيقة";
    Mounts "Media directories" "مجلدات الوسائط";
    NewPassword "New password" "كلمة مرور جديدة";
    Node "Node" "العقدة";
    None "none" "لا شيء";
    NotLive "not live: reload the page" "غير مباشر: أعد تحميل الصفحة";
    Number "Number" "الرقم";
    Obstacles "What keeps masters from acting" "ما يمنع المتحكمات";
    Outbox "Waiting to be sent" "في انتظار الإرسال";
    Outcome "What came of it" "ما نتج عنه";
    Owner "Owner" "المالك";
    Parked "Callbacks put aside" "إشعارات منحاة";
    Password "Password" "كلمة المرور";
    Pause "Pause failover" "إيقاف التحويل مؤقتا";
    Phase "Phase" "المرحلة";
    Planned "Planned switchovers" "عمليات النقل المخططة";
    Primary "Primary master" "المتحكم الرئيسي";
    PurgeCallbacks "Delete callbacks" "حذف الإشعارات";
    Queued "Waiting" "منتظرة";
    Read "Read" "قُرئت";
    Reason "Reason, for the record" "السبب، للسجل";
    Recipient "Recipient" "المستلم";
    Renewed "Renewed" "جُدد قبل";
    ReplyTime "Reply time" "زمن الرد";
    Resume "Resume failover" "استئناف التحويل";
    RetryCallbacks "Deliver again" "إعادة التسليم";
    RetryEvents "Read unread events again" "إعادة قراءة الأحداث غير المقروءة";
    RevokeTokens "End tokens" "إنهاء الرموز";
    Rule "Rule" "القاعدة";
    Sending "Being sent" "قيد الإرسال";
    Sent "Sent" "أُرسلت";
    Settings "Settings" "الإعدادات";
    Shard "Shard" "الشريحة";
    ShardOrAll "Shard (empty: every shard)" "الشريحة (فارغ: كل الشرائح)";
    Shards "Shards and owners" "الشرائح والمالكون";
    ShowAgain "Show what would happen" "اعرض ما سيحدث";
    Silent "silent" "صامت";
    SkipToContent "Skip to the content" "انتقل إلى المحتوى";
    State "State" "الحالة الآن";
    Subject "Subject" "الموضوع";
    Successor "Successor" "الخلف";
    Switchover "Switchover" "نقل الشريحة";
    TakeoverAtMost "Takeover at most" "الاستلام خلال";
    Term "Term" "الولاية";
    Timeline "Timeline" "التسلسل الزمني";
    ToNode "To which node" "إلى أي عقدة";
    Traffic "Traffic" "الحركة";
    Undrain "Undrain" "إنهاء التفريغ";
    Unsettled "Not settled" "غير مسوى";
    UserName "User" "المستخدم";
    Version "Version" "الإصدار";
    What "What" "ماذا";
    WhatIsWrong "What is wrong, and what to do" "ما الخطأ وما العمل";
    WhatToDo "What to do" "ما العمل";
    When "When (UTC)" "متى (UTC)";
    Who "Who" "من";
    WhoeverIsBest "whoever is best" "الأنسب";
    WhyRefused "Why it was refused" "سبب الرفض";
    WouldHappen "What would happen" "ماذا سيحدث";
    Zone "Zone" "المنطقة";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Goal: every label has words of its own in each language. Method: all of them; Arabic ones hold Arabic letters.
    #[test]
    fn every_label_is_translated() {
        let mut seen = BTreeSet::new();
        for word in Word::ALL {
            assert!(seen.insert(word.english()), "{word:?} is said twice");
            let arabic = word.arabic();
            let is_arabic = |c: char| ('\u{600}'..='\u{6ff}').contains(&c);
            assert!(arabic.chars().any(is_arabic), "{word:?}: {arabic}");
            assert!(!word.english().chars().any(is_arabic), "{word:?}");
        }
    }

    /// Goal: the pseudo-language is no English, longer, and from right to left. Method: one label.
    #[test]
    fn the_pseudo_language_shows_itself() {
        assert_eq!(Tongue::Pseudo.say(Word::Cluster), "[Clústér~~~]");
        assert_eq!(Tongue::of("qps").direction(), "rtl");
        assert_eq!(Tongue::of("fr"), Tongue::English);
        for tongue in Tongue::OFFERED {
            assert_eq!(Tongue::of(tongue.tag()), tongue);
        }
    }
}

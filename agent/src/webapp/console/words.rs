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
    AccessToken "Access token" "رمز الوصول";
    Account "Token, version and account" "الرمز والإصدار والحساب";
    AccountNews "News of the account" "أخبار الحساب";
    Ack "Lift the anti-flap block" "رفع حظر التحويل المتكرر";
    AckServer "Accept the new database server" "قبول خادم قاعدة البيانات الجديد";
    Acts "What you can do" "ما يمكنك فعله";
    Adopt "Adopt the restored database" "اعتماد قاعدة البيانات المستعادة";
    All "all" "الكل";
    AllIsWell "Nothing is wrong" "لا توجد مشكلة";
    Ambiguous "Outcome not known" "نتيجتها غير معروفة";
    ApiVersion "API version" "إصدار الواجهة";
    ApplicationSettings "Application settings" "إعدادات التطبيق";
    AskedAt "Asked at (UTC)" "وقت السؤال (UTC)";
    Attempts "Attempts" "المحاولات";
    BackWithoutChange "Back, without a change" "رجوع دون تغيير";
    Backup "Standby" "احتياطي";
    Beat "Database beat" "نبضة قاعدة البيانات";
    BeyondLimits "Figures beyond their limits" "قيم تجاوزت حدودها";
    Callbacks "Callbacks waiting" "إشعارات منتظرة";
    CancelSwitchover "Cancel the planned switchover" "إلغاء النقل المخطط";
    Certificates "Certificates" "الشهادات";
    ChangePassword "Change a password" "تغيير كلمة مرور";
    ChangedSince "changed since" "تغير منذ ذلك";
    Cluster "Cluster" "المجموعة";
    Connected "connected" "متصل";
    Connecting "connecting" "جارٍ الاتصال";
    CreateUser "Create a user" "إنشاء مستخدم";
    Decision "Decision" "القرار";
    Delivered "Delivered" "سُلّمت";
    Diagnosis "Diagnosis" "التشخيص";
    DisplayName "Display name" "الاسم المعروض";
    Drain "Drain" "تفريغ";
    EndAllTokens "End all tokens" "إنهاء كل الرموز";
    EndToken "End it" "إنهاؤه";
    Ends "ends" "ينتهي";
    EndsAt "Ends (UTC)" "النهاية (UTC)";
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
    HeartbeatEvery "Heartbeat every" "نبضة كل";
    IfItDied "If it died now" "إذا توقف الآن";
    InMinutes "In how many minutes (empty: now)" "بعد كم دقيقة (فارغ: الآن)";
    Kind "Kind" "النوع";
    Language "Language" "اللغة";
    LastMinutes "last 15 minutes" "آخر ١٥ دقيقة";
    LeaseMargin "Lease margin" "المتبقي من الحجز";
    Limit "Customers in 24 hours" "العملاء في ٢٤ ساعة";
    Live "live" "مباشر";
    LogIn "Log in" "تسجيل الدخول";
    LogOut "Log out" "تسجيل الخروج";
    Machines "Machines and nodes" "الأجهزة والعقد";
    MadeAt "Made (UTC)" "أُنشئ (UTC)";
    Message "Message" "الرسالة";
    Messages "Messages" "الرسائل";
    Minutes "For how many minutes" "لكم دقيقة";
    Mounts "Media directories" "مجلدات الوسائط";
    NameState "State of the name" "حالة الاسم";
    Names "Names" "الأسماء";
    NewPassword "New password" "كلمة مرور جديدة";
    NoEnd "does not end" "لا ينتهي";
    NoEndKnown "no end is known" "لا نهاية معروفة";
    NoLimit "no limit" "بلا حد";
    NoOwner "no owner" "بلا مالك";
    NobodyKnows "Not known at the moment: no master answers." "غير معروف الآن: لا يجيب أي متحكم.";
    Node "Node" "العقدة";
    None "none" "لا شيء";
    NotGood "not good" "غير صالح";
    NotKnown "not known" "غير معروف";
    NotLive "not live: reload the page" "غير مباشر: أعد تحميل الصفحة";
    Now "Now" "الآن";
    Number "Number" "الرقم";
    Obstacles "What keeps masters from acting" "ما يمنع المتحكمات";
    OldPassword "Old password" "كلمة المرور القديمة";
    Outbox "Waiting to be sent" "في انتظار الإرسال";
    Outcome "What came of it" "ما نتج عنه";
    Owner "Owner" "المالك";
    Parked "Callbacks put aside" "إشعارات منحاة";
    Password "Password" "كلمة المرور";
    Pause "Pause failover" "إيقاف التحويل مؤقتا";
    Phase "Phase" "المرحلة";
    PhoneNumber "Phone number" "رقم الهاتف";
    Planned "Planned switchovers" "عمليات النقل المخططة";
    Primary "Primary master" "المتحكم الرئيسي";
    PublicPort "Public port" "المنفذ العام";
    PurgeCallbacks "Delete callbacks" "حذف الإشعارات";
    Quality "Quality" "الجودة";
    Queued "Waiting" "منتظرة";
    Read "Read" "قُرئت";
    ReadBefore "Read before" "قُرئ قبل";
    Reason "Reason, for the record" "السبب، للسجل";
    Recipient "Recipient" "المستلم";
    Registration "Registration" "التسجيل";
    Renewed "Renewed" "جُدد قبل";
    ReplyTime "Reply time" "زمن الرد";
    Resume "Resume failover" "استئناف التحويل";
    RetryCallbacks "Deliver again" "إعادة التسليم";
    RetryEvents "Read unread events again" "إعادة قراءة الأحداث غير المقروءة";
    RevokeTokens "End tokens" "إنهاء الرموز";
    Role "Role" "الدور";
    Rule "Rule" "القاعدة";
    Save "Save" "حفظ";
    Send "Send" "إرسال";
    Sending "Being sent" "قيد الإرسال";
    Sent "Sent" "أُرسلت";
    Setting "Setting" "الإعداد";
    Settings "Settings" "الإعدادات";
    Shard "Shard" "الشريحة";
    ShardOrAll "Shard (empty: every shard)" "الشريحة (فارغ: كل الشرائح)";
    Shards "Shards and owners" "الشرائح والمالكون";
    ShowAgain "Show what would happen" "اعرض ما سيحدث";
    ShowChange "Show what it would change" "أظهر ما سيتغير";
    Silent "silent" "صامت";
    SilentFor "Unhealthy after silence of" "غير سليم بعد صمت";
    SkipToContent "Skip to the content" "انتقل إلى المحتوى";
    State "State" "الحالة الآن";
    Subject "Subject" "الموضوع";
    Subscription "Apps that get the events" "التطبيقات التي تتلقى الأحداث";
    Successor "Successor" "الخلف";
    Switches "Switches" "المفاتيح";
    Switchover "Switchover" "نقل الشريحة";
    TakeoverAtMost "Takeover at most" "الاستلام خلال";
    TakeoverLongest "Takeover with the master lost" "الاستلام مع فقد المتحكم";
    Template "Template" "القالب";
    Templates "Templates" "القوالب";
    Term "Term" "الولاية";
    TestMessage "Send a test message" "إرسال رسالة تجريبية";
    Text "Text" "النص";
    Then "Then" "بعد ذلك";
    ThisSession "this session" "هذه الجلسة";
    Timeline "Timeline" "التسلسل الزمني";
    TimersAndTakeover "Timers and takeover" "المؤقتات والاستلام";
    ToNode "To which node" "إلى أي عقدة";
    Token "Token" "الرمز";
    Tokens "Tokens" "الرموز";
    Traffic "Traffic" "الحركة";
    Undrain "Undrain" "إنهاء التفريغ";
    Unregistered "not registered" "غير مسجل";
    Unsettled "Not settled" "غير مسوى";
    UsedAt "Used (UTC)" "استُخدم (UTC)";
    UserName "User" "المستخدم";
    Users "Users" "المستخدمون";
    Value "Value" "القيمة";
    Version "Version" "الإصدار";
    WebhookAuthorities "Authorities of webhooks" "سلطات الإشعارات";
    What "What" "ماذا";
    WhatIsWrong "What is wrong, and what to do" "ما الخطأ وما العمل";
    WhatToDo "What to do" "ما العمل";
    When "When (UTC)" "متى (UTC)";
    Who "Who" "من";
    WhoeverIsBest "whoever is best" "الأنسب";
    WhyRefused "Why it was refused" "سبب الرفض";
    WouldChange "What it would change" "ما سيتغير";
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

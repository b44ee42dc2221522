//! How the figure of each alarm follows from the metrics, in the language of Prometheus, and values with which it rings and does
//! not. The limits are in `wa_core::alarm`.

use wa_core::alarm::Alarm;

/// One figure in Prometheus.
pub struct Query {
    pub expr: &'static str,
    /// Series with which the alarm rings.
    pub rings: &'static [(&'static str, &'static str)],
    /// Series with which it does not.
    pub quiet: &'static [(&'static str, &'static str)],
    /// The value of the annotation when it rings.
    pub shown: &'static str,
    /// Labels of the figure beside the cluster.
    pub labels: &'static [(&'static str, &'static str)],
}

const fn query(
    expr: &'static str,
    rings: &'static [(&'static str, &'static str)],
    quiet: &'static [(&'static str, &'static str)],
    shown: &'static str,
) -> Query {
    Query {
        expr,
        rings,
        quiet,
        shown,
        labels: &[],
    }
}

/// A figure that is the count of problems of one kind.
macro_rules! problems {
    ($kind:literal) => {
        query(
            concat!("max by (cluster) (wa_problems{kind=\"", $kind, "\"})"),
            &[(
                concat!("wa_problems{cluster=\"c\",kind=\"", $kind, "\"}"),
                "1+0x30",
            )],
            &[
                (
                    concat!("wa_problems{cluster=\"c\",kind=\"", $kind, "\"}"),
                    "0+0x30",
                ),
                (r#"wa_problems{cluster="c",kind="other"}"#, "1+0x30"),
            ],
            "1",
        )
    };
}

/// A figure that is the number of days until the earliest of some moments; a moment of 0 does not come.
macro_rules! days {
    ($metric:literal) => {
        query(
            concat!(
                "min by (cluster) ((",
                $metric,
                " == 0) + 36500 or (",
                $metric,
                " - time()) / 86400)"
            ),
            // The test looks after 20 minutes.
            &[
                (
                    concat!($metric, r#"{cluster="c",instance="a"}"#),
                    "433200+0x30",
                ),
                (concat!($metric, r#"{cluster="c",instance="b"}"#), "0+0x30"),
            ],
            &[
                (
                    concat!($metric, r#"{cluster="c",instance="a"}"#),
                    "17280000+0x30",
                ),
                (concat!($metric, r#"{cluster="c",instance="b"}"#), "0+0x30"),
            ],
            "5",
        )
    };
}

const FAILOVER_IMMINENT: Query = query(
    "min by (cluster) (100 * wa_tenure_margin_seconds / wa_tenure_seconds and on (cluster, instance) wa_coreapp_owner == 1 \
             or 100 * wa_lease_margin_seconds / wa_lease_seconds and on (cluster, instance) wa_master_primary == 1)",
    &[
        (
            r#"wa_tenure_margin_seconds{cluster="c",instance="a"}"#,
            "0.3+0x30",
        ),
        (r#"wa_tenure_seconds{cluster="c",instance="a"}"#, "1+0x30"),
        (r#"wa_coreapp_owner{cluster="c",instance="a"}"#, "1+0x30"),
    ],
    &[
        (
            r#"wa_tenure_margin_seconds{cluster="c",instance="a"}"#,
            "0.7+0x30",
        ),
        (r#"wa_tenure_seconds{cluster="c",instance="a"}"#, "1+0x30"),
        (r#"wa_coreapp_owner{cluster="c",instance="a"}"#, "1+0x30"),
        (
            r#"wa_tenure_margin_seconds{cluster="c",instance="b"}"#,
            "0+0x30",
        ),
        (r#"wa_tenure_seconds{cluster="c",instance="b"}"#, "1+0x30"),
        (r#"wa_coreapp_owner{cluster="c",instance="b"}"#, "0+0x30"),
        (
            r#"wa_lease_margin_seconds{cluster="c",instance="m"}"#,
            "0.7+0x30",
        ),
        (r#"wa_lease_seconds{cluster="c",instance="m"}"#, "1+0x30"),
        (r#"wa_master_primary{cluster="c",instance="m"}"#, "1+0x30"),
    ],
    "30",
);

const TAKEOVER_SLOW: Query = query(
    "max by (cluster) (100 * wa_takeover_seconds / wa_takeover_promised_seconds)",
    &[
        (r#"wa_takeover_seconds{cluster="c",instance="m"}"#, "3+0x30"),
        (
            r#"wa_takeover_promised_seconds{cluster="c",instance="m"}"#,
            "2+0x30",
        ),
    ],
    &[
        (r#"wa_takeover_seconds{cluster="c",instance="m"}"#, "2+0x30"),
        (
            r#"wa_takeover_promised_seconds{cluster="c",instance="m"}"#,
            "2+0x30",
        ),
    ],
    "150",
);

const MOUNT_FAILS: Query = query(
    "sum by (cluster) (wa_media_ok == bool 0)",
    &[
        (r#"wa_media_ok{cluster="c",instance="a"}"#, "0+0x30"),
        (r#"wa_media_ok{cluster="c",instance="b"}"#, "1+0x30"),
    ],
    &[(r#"wa_media_ok{cluster="c",instance="a"}"#, "1+0x30")],
    "1",
);

const OUTBOX_GROWS: Query = query(
    "sum by (cluster) (wa_outbox_growth)",
    &[
        (r#"wa_outbox_growth{cluster="c",instance="a"}"#, "600+0x30"),
        (r#"wa_outbox_growth{cluster="c",instance="b"}"#, "500+0x30"),
    ],
    &[(r#"wa_outbox_growth{cluster="c",instance="a"}"#, "1000+0x30")],
    "1.1k",
);

const INBOX_GROWS: Query = query(
    "sum by (cluster) (wa_inbox_growth)",
    &[(r#"wa_inbox_growth{cluster="c",instance="a"}"#, "2000+0x30")],
    &[(r#"wa_inbox_growth{cluster="c",instance="a"}"#, "1000+0x30")],
    "2k",
);

const RECEIPTS_LATE: Query = query(
    "max by (cluster) (wa_receipts_silent_seconds)",
    &[(
        r#"wa_receipts_silent_seconds{cluster="c",instance="a"}"#,
        "1200+0x30",
    )],
    &[(
        r#"wa_receipts_silent_seconds{cluster="c",instance="a"}"#,
        "0 60 120 0 60+0x30",
    )],
    "1.2k",
);

const CALLBACKS_PARKED: Query = query(
    "sum by (cluster) (wa_webhooks_parked)",
    &[(r#"wa_webhooks_parked{cluster="c",instance="a"}"#, "7+0x30")],
    &[(r#"wa_webhooks_parked{cluster="c",instance="a"}"#, "0+0x30")],
    "7",
);

const UPSTREAM_REFUSES: Query = Query {
    labels: &[("class", "limit")],
    ..query(
        "100 * sum by (cluster, class) (increase(wa_upstream_refusals_total[10m])) / on (cluster) group_left () \
                 clamp_min(sum by (cluster) (increase(wa_upstream_answers_total[10m])), 20)",
        &[
            (
                r#"wa_upstream_refusals_total{cluster="c",instance="a",class="limit"}"#,
                "0+10x30",
            ),
            (
                r#"wa_upstream_refusals_total{cluster="c",instance="a",class="message"}"#,
                "0+1x30",
            ),
            (
                r#"wa_upstream_answers_total{cluster="c",instance="a"}"#,
                "0+100x30",
            ),
        ],
        &[
            (
                r#"wa_upstream_refusals_total{cluster="c",instance="a",class="limit"}"#,
                "0+5x30",
            ),
            (
                r#"wa_upstream_answers_total{cluster="c",instance="a"}"#,
                "0+100x30",
            ),
        ],
        "10",
    )
};

const DISK_FULL: Query = query(
    "min by (cluster) (100 * wa_state_free_bytes / wa_state_size_bytes)",
    &[
        (r#"wa_state_free_bytes{cluster="c",instance="a"}"#, "5+0x30"),
        (
            r#"wa_state_size_bytes{cluster="c",instance="a"}"#,
            "100+0x30",
        ),
    ],
    &[
        (
            r#"wa_state_free_bytes{cluster="c",instance="a"}"#,
            "10+0x30",
        ),
        (
            r#"wa_state_size_bytes{cluster="c",instance="a"}"#,
            "100+0x30",
        ),
    ],
    "5",
);

const DATABASE_SLOW: Query = query(
    "1000 * max by (cluster) (wa_database_read_seconds)",
    &[(
        r#"wa_database_read_seconds{cluster="c",instance="m"}"#,
        "0.5+0x30",
    )],
    &[(
        r#"wa_database_read_seconds{cluster="c",instance="m"}"#,
        "0.01+0x30",
    )],
    "500",
);

const FALSE_STARTS: Query = query(
    "sum by (cluster) (changes(wa_false_starts_total[1h]))",
    &[(
        r#"wa_false_starts_total{cluster="c",instance="m"}"#,
        "0 0 0 0 0 1+0x30",
    )],
    &[(
        r#"wa_false_starts_total{cluster="c",instance="m"}"#,
        "3+0x30",
    )],
    "1",
);

/// The figure of an alarm.
pub fn of(alarm: Alarm) -> Query {
    match alarm {
        Alarm::FailoverImminent => FAILOVER_IMMINENT,
        Alarm::NoStandby => problems!("no_standby"),
        Alarm::TakeoverSlow => TAKEOVER_SLOW,
        Alarm::GateNotAttested => problems!("ungated"),
        Alarm::MountFails => MOUNT_FAILS,
        Alarm::OutboxGrows => OUTBOX_GROWS,
        Alarm::InboxGrows => INBOX_GROWS,
        Alarm::ReceiptsLate => RECEIPTS_LATE,
        Alarm::CallbacksFail => problems!("callbacks_wait"),
        Alarm::CallbacksParked => CALLBACKS_PARKED,
        Alarm::UpstreamRefuses => UPSTREAM_REFUSES,
        Alarm::QueueHeld => problems!("messages_held"),
        Alarm::TokenEnds => days!("wa_upstream_token_end_timestamp_seconds"),
        Alarm::CertificateEnds => days!("wa_certificate_end_timestamp_seconds"),
        Alarm::VersionEnds => days!("wa_upstream_version_end_timestamp_seconds"),
        Alarm::DiskFull => DISK_FULL,
        Alarm::DatabaseSlow => DATABASE_SLOW,
        Alarm::FalseStarts => FALSE_STARTS,
    }
}

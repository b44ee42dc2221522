//! Goal: everything in the old client's files becomes something here or is listed. Method: files as its guides show them,
//! written by hand for this test; the draft below a folder, and the report.

use super::*;

const DB_ENV: &str = "WA_DB_ENGINE=MYSQL\nWA_DB_HOSTNAME=db1.example\nWA_DB_PORT=3307\nWA_DB_USERNAME=whatsapp\nWA_DB_PASSWORD=pla#nted$pw\n\
    WA_DB_CONNECTION_IDLE_TIMEOUT=180000\nWA_API_KEY=planted-api-key\n";

const CLUSTER: &str = r#"
version: '3'
volumes:
  whatsappMedia:
    driver: local
    driver_opts:
      type: nfs4
      o: "addr=10.0.0.9,rw,soft"
      device: ":/export/media"
services:
  db:
    image: mysql:8.0.33
    ports: ["33060:3306"]
  wacore1:
    image: docker.whatsapp.biz/coreapp:v${WA_API_VERSION:-2.53.6}
    env_file: [db.env]
    environment:
      WA_CONFIG_ON_DB: 1
      WA_APP_MULTICONNECT: '1'
      COREAPP_HOSTNAME: 192.0.2.11
    ports:
      - "6250-6253:6250-6253"
    volumes:
      - whatsappMedia:/usr/local/wamedia
  wacore2:
    image: docker.whatsapp.biz/coreapp:v2.53.6
    environment:
      COREAPP_EXTERNAL_PORTS: "7250,7251,7252,7253"
    volumes:
      - whatsappMedia:/usr/local/wamedia
      - ./data:/usr/local/waent/data
  master:
    image: docker.whatsapp.biz/coreapp:v2.53.6
    environment:
      - WA_MASTER_NODE=1
    ports:
      - "6254-6257:6250-6253"
  waweb:
    image: docker.whatsapp.biz/web:v2.53.6
    environment:
      WA_WEB_SERVERNAME: api.example
      WA_WEB_JWT_CRYPTO_KEY: planted-jwt
    ports:
      - "9443:443"
"#;

fn import(env: &str, compose: &str) -> (tempfile::TempDir, Draft, Report) {
    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let args = ImportArgs {
        env: vec![write("db.env", env)],
        compose: vec![write("prod.yml", compose)],
        root: folder.path().join("root"),
        dry_run: true,
        replace: false,
        force: false,
    };
    let mut draft = Draft::new(&args.root);
    let report = gather(&args, &mut draft).expect("read");
    (folder, draft, report)
}

fn listed(lines: &[String], part: &str) {
    assert!(
        lines.iter().any(|line| line.contains(part)),
        "{part} in {lines:#?}"
    );
}

#[test]
fn a_cluster_is_carried_over() {
    let (_folder, draft, report) = import(DB_ENV, CLUSTER);
    let fragment = draft.contents(Path::new(FRAGMENT)).expect("written");
    for part in [
        "mysql://whatsapp@db1.example:3307/wa",
        "advertise = \"192.0.2.11\"",
        "directory = \"/var/lib/wamedia/shared\"",
        "require = \"nfs\"",
        "tls = \"self-signed\"",
        "tls_names = [\"api.example\"]",
    ] {
        assert!(fragment.contains(part), "{part} in {fragment}");
    }
    let password = draft.contents(&Path::new(CREDENTIALS).join("database-password"));
    assert_eq!(password, Some("pla#nted$pw\n"));
    assert_eq!(
        draft.contents(&Path::new(CREDENTIALS).join("api-key")),
        Some("planted-api-key\n")
    );
    let second = draft
        .contents(Path::new("/etc/wa-agent/instances/coreapp-2.toml"))
        .expect("its ports differ");
    assert!(
        second.contains("heartbeat = 7250") && second.contains("health = 7253"),
        "{second}"
    );
    assert!(
        draft
            .contents(Path::new("/etc/wa-agent/instances/master-1.toml"))
            .is_none(),
        "ports as by the rule"
    );
    let web = draft
        .contents(Path::new("/etc/wa-agent/instances/webapp-1.toml"))
        .expect("its port differs");
    assert!(web.contains("api = 9443"), "{web}");
    let mount = draft
        .contents(Path::new(
            "/etc/systemd/system/var-lib-wamedia-shared.mount",
        ))
        .expect("a mount");
    for part in [
        "What=10.0.0.9:/export/media",
        "Type=nfs4",
        "Options=rw,soft,_netdev",
        "Where=/var/lib/wamedia/shared",
    ] {
        assert!(mount.contains(part), "{part} in {mount}");
    }
    listed(
        &report.carried,
        "systemctl enable --now wa-host wa-master@1 wa-coreapp@1 wa-coreapp@2 wa-webapp@1",
    );
    for part in [
        "WA_CONFIG_ON_DB",
        "WA_WEB_JWT_CRYPTO_KEY",
        "WA_DB_CONNECTION_IDLE_TIMEOUT",
        "/usr/local/waent/data",
        "service db (mysql:8.0.33)",
    ] {
        listed(&report.left, part);
    }
    no_secret(&draft, &report);
}

/// What is shown holds no secret.
fn no_secret(draft: &Draft, report: &Report) {
    let said = [
        report.carried.concat(),
        report.left.concat(),
        draft.show().expect("shown"),
    ]
    .concat();
    for planted in ["planted", "pla#nted"] {
        assert!(!said.contains(planted), "a secret is shown: {said}");
    }
}

/// What is written can be read by the roles.
#[test]
fn what_is_written_is_a_configuration() {
    let (_folder, mut draft, _) = import(DB_ENV, CLUSTER);
    draft.secret(Path::new(CREDENTIALS).join("cluster-key"), "5a".repeat(32));
    draft.secret(Path::new(CREDENTIALS).join("upstream-token"), "token");
    draft.text(
        "/etc/wa-agent/conf.d/10-setup.toml",
        "[upstream]\nphone_number_id = \"1\"\n",
    );
    draft.write().expect("written");
    let root = draft.below(Path::new("/"));
    let loaded =
        crate::config::load_below(&root, wa_core::id::Role::Coreapp, 2).expect("a configuration");
    assert_eq!(loaded.settings.ports.heartbeat, 7250);
    assert!(
        loaded.settings.database.urls[0].contains("pla%23nted$pw")
            || loaded.settings.database.urls[0].contains("pla%23nted%24pw")
    );
}

/// Other shapes of the same things: lists, bind mounts, a database in a container, PostgreSQL, volumes of the engine.
#[test]
fn other_shapes_are_read() {
    let bind = "services:\n  a:\n    image: docker.whatsapp.biz/coreapp:v2\n    volumes:\n      - type: bind\n        source: /mnt/media\n        target: /usr/local/wamedia\n  db:\n    image: mysql:8\n    ports:\n      - target: 3306\n        published: 33060\n";
    let (_folder, draft, report) = import("WA_DB_HOSTNAME=db\nWA_DB_NAME_PREFIX=x_\n", bind);
    let fragment = draft.contents(Path::new(FRAGMENT)).expect("written");
    assert!(
        fragment.contains("require = \"mount\"") && fragment.contains("root@127.0.0.1:33060/x_wa"),
        "{fragment}"
    );
    listed(&report.left, "container of service db");

    let engine = "name: shop\nvolumes:\n  whatsappMedia: {}\nservices:\n  a:\n    image: docker.whatsapp.biz/web:v2\n    volumes: [\"whatsappMedia:/usr/local/wamedia\"]\n";
    let (_folder, draft, report) = import("WA_DB_ENGINE=PGSQL\nWA_DB_HOSTNAME=pg\n", engine);
    let mount = draft
        .contents(Path::new(
            "/etc/systemd/system/var-lib-wamedia-shared.mount",
        ))
        .expect("a mount");
    assert!(
        mount.contains("What=/var/lib/docker/volumes/shop_whatsappMedia/_data\n")
            && mount.contains("Options=bind"),
        "{mount}"
    );
    listed(&report.left, "WA_DB_ENGINE=PGSQL");
}

/// Bad input is an error with the file's name, never a panic.
#[test]
fn what_is_no_compose_file_is_an_error() {
    for text in [
        "",
        "services: 3",
        "- a\n- b",
        "services: {a: {ports: [[]], volumes: [7], environment: [[]]}}",
        "a: [",
        "\u{0}",
    ] {
        let mut notes = Vec::new();
        let _ = compose::parse(text, Path::new("/x"), &Variables::default(), &mut notes);
    }
    let mut notes = Vec::new();
    let error = compose::parse(
        "services: 3",
        Path::new("/x"),
        &Variables::default(),
        &mut notes,
    )
    .expect_err("refused");
    assert!(
        error.to_string().contains("is it a compose file"),
        "{error}"
    );
    // Variables that cannot be read are told with the file and the name.
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("compose.yml");
    std::fs::write(&file, "services:\n  a:\n    image: '${WA_X:-${WA_Y}'\n").expect("written");
    let error = compose::read(&file, &Variables::default(), &mut notes).expect_err("refused");
    let said = format!("{error:#}");
    assert!(said.contains("compose.yml: ${WA_X is not closed"), "{said}");
}

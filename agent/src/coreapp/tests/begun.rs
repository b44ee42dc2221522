//! A coreapp of a test, on ports that are free.

use super::*;

pub type Running = tokio::task::JoinHandle<Result<(), crate::coreapp::CoreappError>>;

pub fn ports() -> Ports {
    Ports {
        heartbeat: free_port(),
        control: 0,
        api: free_port(),
        health: free_port(),
    }
}

/// The node is in the table: it has begun. Ports that were free a moment ago may be taken: then it ends, and begins with others.
pub async fn begun(
    db: &Db,
    mut settings: Arc<Settings>,
) -> (Arc<Settings>, CancellationToken, Running) {
    loop {
        let stop = CancellationToken::new();
        let mut role = tokio::spawn(crate::coreapp::run(Arc::clone(&settings), stop.clone()));
        let registered = async {
            while db.nodes().await.expect("read").is_empty() {
                clock::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = within(registered) => return (settings, stop, role),
            ended = &mut role => {
                let why = ended.expect("no panic").expect_err("it was not stopped");
                eprintln!("the coreapp of a test begins anew: {why:#}");
            }
        }
        let settings = Arc::get_mut(&mut settings).expect("whoever had it has ended");
        settings.ports = ports();
    }
}

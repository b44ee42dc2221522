//! The verbs that change something beside a switchover: ask the primary master, print what it says.
//! Decides nothing.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::reach::Cluster;
use crate::api::control::{OperatorAnswer, OperatorRequest, Verb, path};
use crate::cli::Wish;
use crate::exit::Exit;

/// Asks the primary master. Without `sure` a person is asked first, after hearing what would happen.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(wish: &Wish, verb: Verb, sure: bool) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::find(wish.reach.config.as_deref()).await?;
        cluster.may_change()?;
        let mut request = OperatorRequest {
            verb,
            dry_run: wish.dry_run || !sure,
            reason: wish.reason.clone(),
            by: Some(super::reach::who()),
        };
        let mut answer = ask(&cluster, &request).await;
        if let Some(said) = answer
            .as_ref()
            .filter(|a| a.accepted && !sure && !wish.dry_run)
        {
            println!("{}", said.message);
            if !confirmed()? {
                println!("nothing was done");
                return Ok(Exit::Failure);
            }
            request.dry_run = false;
            answer = ask(&cluster, &request).await;
        }
        let Some(answer) = answer.filter(|a| !a.elsewhere) else {
            eprintln!("wa-agent: {}", cluster.nobody());
            return Ok(Exit::Unavailable);
        };
        if wish.reach.json {
            println!("{}", serde_json::to_string(&answer)?);
        } else if answer.accepted {
            let dry = if request.dry_run { "(dry run) " } else { "" };
            println!("{dry}{}", answer.message);
        } else {
            eprintln!("wa-agent: {}", answer.message);
        }
        Ok(if answer.accepted {
            Exit::Ok
        } else {
            Exit::Failure
        })
    })
}

/// A person types yes. Where nobody sits, the answer is no.
pub(super) fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        eprintln!("wa-agent: nobody can be asked here: add --yes");
        return Ok(false);
    }
    print!("Type yes to go on: ");
    std::io::stdout().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

async fn ask(cluster: &Cluster, request: &OperatorRequest) -> Option<OperatorAnswer> {
    let elsewhere = |answer: &OperatorAnswer| answer.elsewhere;
    let said = cluster.ask(path::OPERATE, request, elsewhere).await;
    said.map(|(_, answer)| answer)
}

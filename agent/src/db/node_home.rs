//! In which boot of which machine each start runs (`node_home`): what a receipt of a host agent is compared with.
//! The rows are read beside those of the nodes (`node.rs`).

use wa_core::id::{Incarnation, NodeId};
use wa_core::master::Home;

use super::{Db, DbError, is_missing_table, number, on_pool};

/// Behind the table of nodes: what each start said, and nothing for those that said nothing.
pub(super) const JOINED: &str =
    "LEFT JOIN node_home ON home_of=node AND home_counter=inc_counter AND home_random=inc_random";
/// Its columns.
pub(super) const COLUMNS: &str = "home_machine, home_boot";

/// Both ids of a row; `None` where it says nothing, or nothing that anybody understands.
pub(super) fn home(machine: Option<&str>, boot: Option<&str>) -> Option<Home> {
    let id = |text: &str| u128::from_str_radix(text, 16).ok();
    Some(Home {
        machine: id(machine?)?,
        boot: id(boot?)?,
    })
}

impl Db {
    /// Says where this start runs. False: the primary master has not made the table yet. Until it is said, receipts are judged as those
    /// of releases that say nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tell_home(
        &self,
        node: &NodeId,
        start: Incarnation,
        home: Home,
    ) -> Result<bool, DbError> {
        let sql = if self.embedded() {
            "INSERT OR REPLACE INTO node_home (home_of, home_counter, home_random, home_machine, home_boot) VALUES (?,?,?,?,?)"
        } else {
            "REPLACE INTO node_home (home_of, home_counter, home_random, home_machine, home_boot) VALUES (?,?,?,?,?)"
        };
        let saying = async {
            on_pool!(self, pool => {
                sqlx::query(sql)
                    .bind(node.as_str())
                    .bind(number(start.counter))
                    .bind(number(start.random))
                    .bind(format!("{:032x}", home.machine))
                    .bind(format!("{:032x}", home.boot))
                    .execute(pool)
                    .await?
                .rows_affected()
            });
            Ok::<_, DbError>(())
        };
        match saying.await {
            Ok(()) => Ok(true),
            Err(DbError::Sqlx(error)) if is_missing_table(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a row that nobody understands says nothing. Method: what stands in the columns, good and bad.
    #[test]
    fn ids_are_read_as_they_are_written() {
        let long = "f".repeat(32);
        assert_eq!(
            home(Some(&long), Some("0a")),
            Some(Home {
                machine: u128::MAX,
                boot: 10
            })
        );
        for (machine, boot) in [
            (None, Some("1")),
            (Some("1"), None),
            (Some("x"), Some("1")),
            (Some(""), Some("1")),
        ] {
            assert_eq!(home(machine, boot), None);
        }
    }
}

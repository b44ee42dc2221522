//! Which form of messages each coreapp reads (`node_form`), so that none is written that an owner could not read.

use std::collections::HashMap;

use wa_core::id::{Incarnation, NodeId, Role};

use super::node::Registration;
use super::{Db, DbError, number, on_pool, unsigned};
use crate::api::v1::message::stored::Form;

/// A start, and the newest form that it said it reads. Another start of the same node may be of another release.
pub type Forms = HashMap<(NodeId, Incarnation), u16>;

/// The newest form that every coreapp reads. A start that says nothing is of a release that reads the first one.
pub fn read_by_all<'a>(members: impl Iterator<Item = &'a Registration>, forms: &Forms) -> u16 {
    let coreapps = members.filter(|r| r.role == Role::Coreapp);
    let said = coreapps.map(|r| forms.get(&(r.node.clone(), r.incarnation)));
    let lowest = said.map(|form| form.copied().unwrap_or(0)).min();
    lowest.unwrap_or(0).max(Form::One.number())
}

impl Db {
    /// Says which form this start reads.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tell_form(
        &self,
        node: &NodeId,
        start: Incarnation,
        newest: u16,
    ) -> Result<(), DbError> {
        let sql = if self.embedded() {
            "INSERT OR REPLACE INTO node_form (node, inc_counter, inc_random, form_max) VALUES (?,?,?,?)"
        } else {
            "REPLACE INTO node_form (node, inc_counter, inc_random, form_max) VALUES (?,?,?,?)"
        };
        on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(node.as_str())
                .bind(number(start.counter))
                .bind(number(start.random))
                .bind(i64::from(newest))
                .execute(pool)
                .await
                .map(|_| ())?
        });
        Ok(())
    }

    /// What all starts said.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn forms(&self) -> Result<Forms, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT node, inc_counter, inc_random, CAST(form_max AS {int}) FROM node_form"
        ));
        let rows: Vec<(String, i64, i64, i64)> =
            on_pool!(self, pool => sqlx::query_as(sql).fetch_all(pool).await?);
        let form = |(node, counter, random, form): (String, i64, i64, i64)| {
            let start = Incarnation {
                counter: unsigned(counter),
                random: unsigned(random),
            };
            let form = u16::try_from(form).unwrap_or(0);
            ((NodeId::new(&node), start), form)
        };
        Ok(rows.into_iter().map(form).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing is written that a possible owner cannot read. Method: coreapps of two releases, one of which says nothing,
    /// or said it as an earlier start.
    #[test]
    fn the_form_is_one_that_every_coreapp_reads() {
        let start = |counter| Incarnation { counter, random: 9 };
        let member = |node: &str, role, counter| Registration {
            node: NodeId::new(node),
            role,
            incarnation: start(counter),
            machine: "m".into(),
            zone: "z".into(),
            address: "127.0.0.1".into(),
            port_heartbeat: 1,
            port_control: 2,
            port_api: 3,
            version: "0".into(),
            weight: 0,
            keys: Default::default(),
        };
        let said = |node: &str, counter, form| ((NodeId::new(node), start(counter)), form);
        let forms = Forms::from([
            said("a:coreapp-1", 1, 2),
            said("b:coreapp-1", 1, 2),
            said("c:coreapp-1", 1, 1),
        ]);
        let core = |node, counter| member(node, Role::Coreapp, counter);
        let master = member("a:master-1", Role::Master, 1);
        let of = |all: &[&Registration]| read_by_all(all.iter().copied(), &forms);
        let (a, b, c) = (
            core("a:coreapp-1", 1),
            core("b:coreapp-1", 1),
            core("c:coreapp-1", 1),
        );
        assert_eq!(of(&[&a, &b, &master]), 2);
        assert_eq!(of(&[&a, &b, &c]), 1);
        assert_eq!(
            of(&[&a, &core("b:coreapp-1", 2)]),
            1,
            "a start that says nothing"
        );
        assert_eq!(
            of(&[&a, &core("d:coreapp-1", 1)]),
            1,
            "a node that says nothing"
        );
        assert_eq!(of(&[&master]), 1);
    }
}

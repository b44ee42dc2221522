//! What is wrong with the cluster, as masters tell it.
//! Judges nothing: `wa_core::judgement` does.

use serde::{Deserialize, Serialize};
use wa_core::judgement::{Grade, Problem};

/// One problem, as `wa_core::judgement` found it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Its kind, for example `no_master`.
    pub kind: String,
    /// `broken`, `weak` or `remark`.
    pub grade: String,
    /// The node or shard that it is about; empty: the whole cluster.
    pub about: String,
    pub says: String,
    /// What to type; empty where the sentence says it.
    pub remedy: String,
}

impl From<&Problem> for Judged {
    fn from(problem: &Problem) -> Self {
        Self {
            kind: problem.kind.as_str().into(),
            grade: problem.kind.grade().as_str().into(),
            about: problem.about.clone(),
            says: problem.says.clone(),
            remedy: problem.remedy.clone(),
        }
    }
}

impl Judged {
    /// The whole of it, in one line.
    pub fn line(&self) -> String {
        match self.remedy.is_empty() {
            true => self.says.clone(),
            false => format!("{} ({})", self.says, self.remedy),
        }
    }

    /// Something is wrong, not only worth a remark.
    pub fn wrong(&self) -> bool {
        self.grade != Grade::Remark.as_str()
    }

    /// Something is refused, stands still, or is not protected now.
    pub fn broken(&self) -> bool {
        self.grade == Grade::Broken.as_str()
    }
}

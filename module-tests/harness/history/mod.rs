//! What concurrent clients did and were told, and whether one order of it explains all.

pub mod clients;
pub mod disturbances;
pub mod linear;
pub mod steps;

/// What an operation does to its key. A register holds no value or one, a list any number; no value is written twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Read,
    Set(u64),
    /// Sets, and reports what was there.
    Replace(u64),
    SetIfAbsent(u64),
    Delete,
    Push(u64),
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Contents(Vec<u64>),
    /// That it happened, and nothing else.
    Done,
    Changed(bool),
    Length(usize),
}

impl Reply {
    /// Whether a client may have been told this of an operation that gives the whole reply.
    pub fn fits(&self, whole: &Reply) -> bool {
        self == whole || *self == Reply::Done
    }
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Operations of one client happen in the order of their invocation.
    pub client: usize,
    pub effect: Effect,
    /// `None` when the server died first: it may have happened, before it died, or not.
    pub reply: Option<Reply>,
    pub invoked: u64,
    /// When the client had the reply, or the server was dead.
    pub completed: u64,
}

impl Effect {
    /// What a single copy of the key does.
    pub fn apply(&self, state: &mut Vec<u64>) -> Reply {
        let before = state.clone();
        match self {
            Effect::Read => Reply::Contents(before),
            Effect::Set(value) => {
                *state = vec![*value];
                Reply::Done
            }
            Effect::Replace(value) => {
                *state = vec![*value];
                Reply::Contents(before)
            }
            Effect::SetIfAbsent(value) => {
                if before.is_empty() {
                    state.push(*value);
                }
                Reply::Changed(before.is_empty())
            }
            Effect::Delete => {
                state.clear();
                Reply::Changed(!before.is_empty())
            }
            Effect::Push(value) => {
                state.push(*value);
                Reply::Length(state.len())
            }
        }
    }
}

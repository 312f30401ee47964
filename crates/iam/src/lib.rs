//! Who may do what: policy documents, read strictly, and the one function that judges them.
//!
//! Pure: no store, no clock. [`decide`] is called in the CLC and in Walrus and nowhere else; an
//! account that another daemon names is data, not a principal. What is not understood is refused:
//! a policy with an unknown field or operator does not parse, and a request that nothing allows is
//! denied.
//!
//! | module | holds |
//! |---|---|
//! | [`principal`] | who asks |
//! | [`policy`] | documents: statements, effects, who and what they name |
//! | [`condition`] | the operators of a statement's `Condition` |
//! | [`context`] | the facts of a request that conditions look at |
//! | [`decide`] | the judgement |
//! | [`pattern`] | `*` and `?` |

pub mod condition;
pub mod context;
pub mod decide;
pub mod pattern;
pub mod policy;
pub mod principal;

pub use context::Context;
pub use decide::{Decision, Denied, Policies, Request, decide};
pub use pattern::Pattern;
pub use policy::{Effect, MalformedPolicy, Policy, Statement};
pub use principal::{Principal, Standing};

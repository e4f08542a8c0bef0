//! Applies a pass's rules to every node, again and again until none applies.
//!
//! Takes a verified module, gives it rewritten with a list of patches. Each sweep rebuilds the
//! function without dead nodes; every rule sees operands that are already rewritten. It never
//! chooses between rules: the first of the list that applies is taken.

use thiserror::Error;

use super::editor::{Edit, Editor, Site, Stop};
use super::pass::{Pass, Patch};
use crate::graph::verify::{Verified, VerifyError};
use crate::graph::{Definition, Func, GraphError, Module, TensorType, Value, ValueData};

/// Rules that still apply after so many sweeps undo each other.
const SWEEPS_MAX: usize = 100;

/// How a pass went wrong.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PassError {
    /// A rule built an ill-typed node.
    #[error("rule {rule} of pass {pass} in {func:?}: {source}")]
    Rule {
        /// The pass.
        pass: &'static str,
        /// The rule, or `rebuild`.
        rule: &'static str,
        /// The function.
        func: String,
        /// What is wrong with the node.
        source: GraphError,
    },
    /// A rule gave a value of another type.
    #[error(
        "rule {rule} of pass {pass} in {func:?} at {origin:?} gave type {found}, wanted {wanted}"
    )]
    Type {
        /// The pass.
        pass: &'static str,
        /// The rule.
        rule: &'static str,
        /// The function.
        func: String,
        /// Where the replaced value comes from.
        origin: String,
        /// The type of the replacement.
        found: TensorType,
        /// The type of what it replaces.
        wanted: TensorType,
    },
    /// The rules found something to do after every sweep.
    #[error("pass {pass} in {func:?} finds no end, last by rule {rule}")]
    Unstable {
        /// The pass.
        pass: &'static str,
        /// The function.
        func: String,
        /// The rule that was applied last.
        rule: &'static str,
    },
    /// The module breaks a rule of the graph after the pass.
    #[error("after pass {pass}: {source}")]
    Verify {
        /// The pass.
        pass: &'static str,
        /// The rule it breaks.
        source: VerifyError,
    },
}

/// Runs one pass to its fixpoint, or until it made `patches_max` patches.
///
/// # Errors
/// When a rule makes an ill-typed graph, or rules undo each other: always our fault, named.
pub fn run(
    pass: &Pass,
    module: Verified,
    patches_max: Option<usize>,
) -> Result<(Verified, Vec<Patch>), PassError> {
    let mut patches = Vec::new();
    let limit = patches_max.unwrap_or(usize::MAX);
    let mut funcs = Vec::new();
    for func in module.into_inner().funcs {
        funcs.push(fixpoint(pass, func, limit, &mut patches)?);
    }
    let name = pass.name;
    let verified = Verified::after_pass(Module { funcs });
    let verified = verified.map_err(|source| PassError::Verify { pass: name, source })?;
    Ok((verified, patches))
}

fn fixpoint(
    pass: &Pass,
    mut func: Func,
    limit: usize,
    patches: &mut Vec<Patch>,
) -> Result<Func, PassError> {
    for _ in 0..SWEEPS_MAX {
        let before = patches.len();
        func = sweep(pass, &func, limit, patches)?;
        if patches.len() == before {
            // Rules that looked in vain may have left nodes that nobody uses.
            return sweep(pass, &func, 0, patches);
        }
    }
    Err(PassError::Unstable {
        pass: pass.name,
        func: func.name().to_owned(),
        rule: patches.last().map_or("none", |patch| patch.rule),
    })
}

/// Rebuilds the live part of a function, with at most one patch for each node.
fn sweep(
    pass: &Pass,
    func: &Func,
    limit: usize,
    patches: &mut Vec<Patch>,
) -> Result<Func, PassError> {
    let users = users(func);
    let mut editor = Editor::new(func.name());
    let mut renamed: Vec<Option<Value>> = Vec::with_capacity(users.len());
    let rebuild = |source| PassError::Rule {
        pass: pass.name,
        rule: "rebuild",
        func: func.name().to_owned(),
        source,
    };
    for (value, data) in func.values() {
        editor.at(&data.origin);
        let uses = users[value.0 as usize];
        let new = match &data.definition {
            Definition::Param(param) => {
                let ty = data.ty.clone();
                editor.param(&param.name, param.role, ty).map_err(rebuild)?
            }
            Definition::Node(_) if uses == 0 => {
                renamed.push(None);
                continue;
            }
            Definition::Node(node) => {
                let operands: Vec<Value> = node.operands.iter().map(rename(&renamed)).collect();
                let site = Site {
                    op: &node.op,
                    operands: &operands,
                    ty: &data.ty,
                };
                let patched = match patches.len() < limit {
                    true => patch(pass, func, data, &site, &mut editor)?,
                    false => None,
                };
                match patched {
                    Some((value, patch)) => {
                        patches.push(patch);
                        value
                    }
                    None => editor.push(node.op.clone(), &operands).map_err(rebuild)?,
                }
            }
        };
        editor.add_users(new, uses);
        renamed.push(Some(new));
    }
    let results = func.results().iter();
    let results = results.map(|(name, value)| (name.clone(), rename(&renamed)(value)));
    editor.finish(results).map_err(rebuild)
}

fn rename(renamed: &[Option<Value>]) -> impl Fn(&Value) -> Value {
    |value| renamed[value.0 as usize].expect("what is used is live, and comes first")
}

/// The first rule that applies, and what it gives.
fn patch(
    pass: &Pass,
    func: &Func,
    data: &ValueData,
    site: &Site<'_>,
    editor: &mut Editor,
) -> Result<Option<(Value, Patch)>, PassError> {
    for rule in pass.rules {
        let Edit { value, reason } = match (rule.apply)(site, editor) {
            Ok(edit) => edit,
            Err(Stop::NoMatch) => continue,
            Err(Stop::Graph(source)) => {
                return Err(PassError::Rule {
                    pass: pass.name,
                    rule: rule.name,
                    func: func.name().to_owned(),
                    source,
                });
            }
        };
        let (func, origin) = (func.name().to_owned(), data.origin.clone());
        let rule = rule.name;
        if *editor.ty(value) != data.ty {
            return Err(PassError::Type {
                pass: pass.name,
                rule,
                func,
                origin,
                found: editor.ty(value).clone(),
                wanted: data.ty.clone(),
            });
        }
        let patch = Patch {
            rule,
            func,
            origin,
            reason,
        };
        return Ok(Some((value, patch)));
    }
    Ok(None)
}

/// How often each value is used by what the results need, once for each operand and result.
fn users(func: &Func) -> Vec<u32> {
    let values: Vec<_> = func.values().collect();
    let mut users = vec![0; values.len()];
    for (_, value) in func.results() {
        users[value.0 as usize] += 1;
    }
    for (value, data) in values.into_iter().rev() {
        match &data.definition {
            Definition::Node(node) if users[value.0 as usize] > 0 => {
                for operand in &node.operands {
                    users[operand.0 as usize] += 1;
                }
            }
            Definition::Node(_) | Definition::Param(_) => {}
        }
    }
    users
}

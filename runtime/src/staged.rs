//! Staged sessions: what depends on inputs that seldom change is computed when they change.
//!
//! Takes a program, the inputs that change more rarely than others, and weights; gives a session
//! of several parts that remembers the results of all but the last. It computes what the whole
//! program computes, and does not know which inputs seldom change: its caller does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use backends::device::Device;
use compiler::graph::{Role, TensorType};
use compiler::passes::hoist;
use compiler::program::{CompileError, Executable, Program};
use compiler::tile::Tuning;
use compiler::value::tensor::Tensor;

use crate::artifact::{ArtifactError, ArtifactProgram, Port};
use crate::place::Place;
use crate::session::{Session, SessionError, converted};

/// Inputs that change together, more rarely than those of later stages and than all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What it is called in messages.
    pub name: &'static str,
    /// What the inputs change with, as in "once per prompt".
    pub per: &'static str,
    /// The inputs, the most telling one first; a program need not have all of them.
    pub inputs: &'static [&'static str],
    /// For how many different inputs results are remembered, those used last; at least 1 is.
    pub remembered_max: usize,
}

/// A program in parts: what each stage computes, and the body, which needs all inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    inputs: Vec<(String, TensorType)>,
    prologues: Vec<(Stage, Executable)>,
    body: Executable,
}

/// The parts of a program with their weights, ready to run.
pub struct StagedSession {
    inputs: Vec<(String, TensorType)>,
    prologues: Vec<Prologue>,
    body: Session,
    calls: AtomicU64,
}

/// What a stage computes, and what it remembers, used last first.
struct Prologue {
    stage: Stage,
    session: Session,
    remembered: Mutex<VecDeque<Remembered>>,
    calls: AtomicU64,
}

/// Tensors by name.
type Named = BTreeMap<String, Tensor>;

struct Remembered {
    inputs: Named,
    results: Vec<(String, Tensor)>,
}

impl Staged {
    /// Splits `program` stage by stage. A stage may also read what stages before it read and
    /// compute; one without anything worth computing ahead has no part.
    ///
    /// # Errors
    /// When memory for a part cannot be planned.
    pub fn of(program: &Program, stages: &[Stage]) -> Result<Staged, CompileError> {
        let mut whole = program.func().clone();
        let (mut prologues, mut settled) = (Vec::new(), Vec::<String>::new());
        for stage in stages {
            let earlier = settled.iter().map(String::as_str);
            let stable: Vec<&str> = stage.inputs.iter().copied().chain(earlier).collect();
            let hoisted = hoist(&whole, &stable);
            settled.extend(stage.inputs.iter().map(|&name| name.to_owned()));
            if let Some(hoisted) = hoisted {
                let results = hoisted.prologue.results().iter();
                settled.extend(results.map(|(name, _)| name.clone()));
                let prologue = Program::new(hoisted.prologue)?.into_executable();
                prologues.push((*stage, prologue));
                whole = hoisted.body;
            }
        }
        Ok(Staged {
            inputs: program.inputs(),
            prologues,
            body: match stages.is_empty() {
                true => program.executable().clone(),
                false => Program::new(whole)?.into_executable(),
            },
        })
    }

    /// The parts in which an artifact stores a program; `stages` are those that it may name.
    ///
    /// # Errors
    /// When a part breaks a rule, or the parts are not stages and then the body.
    pub fn stored(program: &ArtifactProgram, stages: &[Stage]) -> Result<Staged, ArtifactError> {
        let wrong = || ArtifactError::Damaged {
            program: format!("{}/{}", program.component, program.name),
            what: "stages",
        };
        let mut parts = program.executables()?;
        let (None, body) = parts.pop().ok_or_else(wrong)? else {
            return Err(wrong());
        };
        let named = |name: &str| stages.iter().find(|stage| stage.name == name);
        let prologue = |(stage, part): (Option<String>, Executable)| {
            let stage = named(&stage?)?;
            Some((*stage, part))
        };
        let prologues: Option<Vec<_>> = parts.into_iter().map(prologue).collect();
        Ok(Staged {
            inputs: program.inputs.iter().map(Port::named).collect(),
            prologues: prologues.ok_or_else(wrong)?,
            body,
        })
    }

    /// The programs in the order in which they run, each with its stage; the body has none.
    pub fn parts(&self) -> impl Iterator<Item = (Option<Stage>, &Executable)> {
        let prologues = self.prologues.iter();
        let prologues = prologues.map(|(stage, program)| (Some(*stage), program));
        prologues.chain([(None, &self.body)])
    }
}

impl StagedSession {
    /// Loads the parts of a program at a place, each with its share of `weights`, as
    /// [`Session::open`] does.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open(
        staged: &Staged,
        weights: BTreeMap<String, Tensor>,
        place: &Place,
        tuning: &Tuning,
    ) -> Result<StagedSession, SessionError> {
        let shares: Vec<Named> = staged
            .parts()
            .map(|(_, program)| share(program, &weights))
            .collect();
        // From here on each weight belongs to those who read it.
        drop(weights);
        let mut shares = shares.into_iter();
        let mut open =
            |program| Session::open(program, shares.next().unwrap_or_default(), place, tuning);
        let mut prologues = Vec::with_capacity(staged.prologues.len());
        for (stage, program) in &staged.prologues {
            prologues.push(Prologue {
                stage: *stage,
                session: open(program)?,
                remembered: Mutex::default(),
                calls: AtomicU64::new(0),
            });
        }
        Ok(StagedSession {
            inputs: staged.inputs.clone(),
            prologues,
            body: open(&staged.body)?,
            calls: AtomicU64::new(0),
        })
    }

    /// The name and type of each input of the whole program, in order.
    pub fn inputs(&self) -> &[(String, TensorType)] {
        &self.inputs
    }

    /// How often each part was computed so far, in the order in which they run; the body has no
    /// stage.
    pub fn calls(&self) -> Vec<(Option<Stage>, u64)> {
        let prologues = self.prologues.iter();
        let prologues = prologues.map(|prologue| (Some(prologue.stage), &prologue.calls));
        let all = prologues.chain([(None, &self.calls)]);
        all.map(|(stage, calls)| (stage, calls.load(Ordering::Relaxed)))
            .collect()
    }

    /// What the parts were loaded on.
    pub(crate) fn device(&self) -> &Arc<dyn Device> {
        self.body.device()
    }

    /// The parts in the order in which they run, the body last, and how often each was computed.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Session, &AtomicU64)> {
        let prologues = self.prologues.iter();
        let prologues = prologues.map(|prologue| (&prologue.session, &prologue.calls));
        prologues.chain([(&self.body, &self.calls)])
    }

    /// Replaces weights in all parts, as [`Session::set_weights`] does, and forgets what stages
    /// remember.
    ///
    /// # Errors
    /// As [`Session::set_weights`].
    pub fn set_weights(
        &self,
        changed: &[&str],
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), SessionError> {
        for prologue in &self.prologues {
            let remembered = prologue.remembered.lock();
            remembered.unwrap_or_else(PoisonError::into_inner).clear();
            prologue.session.set_weights(changed, weights)?;
        }
        self.body.set_weights(changed, weights)
    }

    /// Runs the program; gives its results in order. Parts whose inputs are remembered are not
    /// computed again.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run(
        &self,
        inputs: &BTreeMap<String, Tensor>,
    ) -> Result<Vec<(String, Tensor)>, SessionError> {
        let mut values = converted(&self.inputs, inputs)?;
        for prologue in &self.prologues {
            let results = prologue.results(picked(&prologue.session, &values))?;
            values.extend(results);
        }
        let results = self.body.run(&picked(&self.body, &values))?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(results)
    }
}

impl Prologue {
    /// What the stage computes of `inputs`, remembered or anew.
    fn results(&self, inputs: Named) -> Result<Vec<(String, Tensor)>, SessionError> {
        let remembered = self.remembered.lock();
        let mut remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        let known = remembered
            .iter()
            .position(|known| all_same(&known.inputs, &inputs))
            .and_then(|position| remembered.remove(position));
        let used = match known {
            Some(known) => known,
            None => {
                // What goes anyway goes before memory for more is needed.
                remembered.truncate(self.stage.remembered_max.saturating_sub(1));
                let results = self.session.run(&inputs)?;
                self.calls.fetch_add(1, Ordering::Relaxed);
                Remembered { inputs, results }
            }
        };
        let results = used.results.clone();
        remembered.push_front(used);
        Ok(results)
    }
}

/// The weights that `program` reads, of those that there are.
fn share(program: &Executable, weights: &Named) -> Named {
    let read = program.params(Role::Weight);
    read.filter_map(|(name, _)| Some((name.to_owned(), weights.get(name)?.clone())))
        .collect()
}

/// The inputs of a part, of all there are.
fn picked(part: &Session, values: &Named) -> Named {
    let names = part.inputs().iter();
    names
        .filter_map(|(name, _)| Some((name.clone(), values.get(name)?.clone())))
        .collect()
}

/// Whether two sets of inputs of one program are equal.
pub(crate) fn all_same(first: &Named, second: &Named) -> bool {
    let mut pairs = first.values().zip(second.values());
    pairs.all(|(first, second)| same(first, second))
}

/// Whether two tensors of one type are equal, bit for bit; a shared one is not read.
fn same(first: &Tensor, second: &Tensor) -> bool {
    let (first, second) = (first.bytes(), second.bytes());
    let shared = first.as_ptr() == second.as_ptr() && first.len() == second.len();
    shared || first == second
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Options;

    const PROGRAM: &str = r#"
func step {
  %0 = input "sample" : f32[1, 16]
  %1 = input "timestep" : f32[1, 16]
  %2 = weight "time" : f32[16, 16]
  %3 = weight "out" : f32[16, 16]
  %4 = linear(%1, %2)
  %5 = add(%0, %4)
  %6 = linear(%5, %3)
  return "y" %6
}
"#;

    const TIME: Stage = Stage {
        name: "time",
        per: "timestep",
        inputs: &["timestep", "timestep_cond"],
        remembered_max: 2,
    };

    fn open(stages: &[Stage]) -> StagedSession {
        let program = Program::parse(PROGRAM).expect("the text is a program");
        let weight = |factor: f32| {
            let values: Vec<f32> = (0..256).map(|i| (i % 7) as f32 * factor).collect();
            Tensor::from_f32(&[16, 16], &values)
        };
        let weights = Named::from([
            ("time".to_owned(), weight(0.3)),
            ("out".to_owned(), weight(0.7)),
        ]);
        let place = Place::cpu(Options {
            threads: Some(1),
            exact: true,
        });
        let staged = Staged::of(&program, stages).expect("its parts are programs");
        StagedSession::open(&staged, weights, &place, &Tuning::default()).expect("the weights fit")
    }

    #[test]
    fn results_used_last_are_remembered() {
        let (staged, whole) = (open(&[TIME]), open(&[]));
        // Timesteps, and how often the stage was computed until then.
        for (timestep, wanted) in [
            (1.0, 1),
            (1.0, 1),
            (2.0, 2),
            (1.0, 2),
            (3.0, 3),
            (1.0, 3),
            (2.0, 4),
            (0.0, 5),
            (-0.0, 6),
        ] {
            let inputs = Named::from([
                ("sample".to_owned(), Tensor::from_f32(&[1, 16], &[0.5; 16])),
                (
                    "timestep".to_owned(),
                    Tensor::from_f32(&[1, 16], &[timestep; 16]),
                ),
            ]);
            let results = [&staged, &whole].map(|session| session.run(&inputs));
            let [found, expected] = results.map(|results| results.expect("it runs"));
            assert_eq!(found, expected, "timestep {timestep}");
            assert_eq!(
                staged.calls()[0],
                (Some(TIME), wanted),
                "timestep {timestep}"
            );
        }
    }

    #[test]
    fn inputs_are_those_of_the_whole() {
        let staged = open(&[TIME]);
        let tensor = || Tensor::from_f32(&[1, 16], &[0.5; 16]);
        for names in [
            ["sample", "timestep.0"].as_slice(),
            &["sample"],
            &["sample", "timestep", "timestep_cond"],
        ] {
            let inputs = names.iter().map(|&name| (name.to_owned(), tensor()));
            assert!(staged.run(&inputs.collect()).is_err(), "{names:?}");
        }
    }
}

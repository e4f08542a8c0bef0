//! Pictures of a training: grids of samples, and how far they are from the teacher's own.
//!
//! Takes the students that a training writes; samples them by `splamc sample` itself, with prompts
//! and seeds that stay the same; writes grids and errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use compiler::program::pipeline::Task;
use compiler::value::tensor::Tensor;
use runtime::training::pictures::{grid, paired_error};
use serde_json::{Map, Value, json};

use crate::error::{At, Failure};
use crate::model::Model;
use crate::sampled::{self, Request};
use crate::{outputs, png, progress, tensors};

/// The seed of the first prompt; later ones follow.
const SEED: u64 = 1000;

/// Steps of a student's pictures, from left to right in a grid.
const STEPS: [usize; 3] = [1, 2, 4];

/// Steps of the teacher's own pictures, the last column.
const TEACHER_STEPS: usize = 50;

/// What a training samples.
pub(crate) struct Samples<'a> {
    teacher: &'a Model,
    /// Whether the teacher has no weights, and so no pictures of its own.
    untrained: bool,
    folder: PathBuf,
    prompts: Vec<String>,
    /// The guidance scale of the teacher's pictures.
    guidance: Option<f64>,
    /// Flags that say where programs run.
    flags: Vec<String>,
    /// Rows and columns of pictures, in pixels.
    size: [usize; 2],
}

impl Samples<'_> {
    /// The samples of a training in `folder`; refuses teachers that cannot make pictures, and to
    /// compare (`validates`) with one that has none.
    pub(crate) fn new<'a>(
        teacher: &'a Model,
        validates: bool,
        folder: &Path,
        prompts: Option<&Path>,
        guidance: Option<f64>,
        flags: Vec<String>,
        size: [usize; 2],
    ) -> Result<Samples<'a>, Failure> {
        for task in [Task::EncodeText, Task::Decode] {
            if let Err(error) = teacher.pipeline().of_task(task) {
                let failure = Failure::usage(format!("{}: {error}", teacher.place()));
                let hint = "leave out --sample-every and --validate, or pass a whole pipeline";
                return Err(failure.hint(hint));
            }
        }
        let untrained = teacher.is_untrained()?;
        if untrained && validates {
            let place = teacher.place();
            let failure = Failure::usage(format!(
                "{place}: --validate compares with pictures of the teacher, which has no weights"
            ));
            return Err(failure.hint("leave out --validate; --sample-every draws the student's"));
        }
        let prompts = sampled::prompts(prompts)?;
        let folder = folder.join("samples");
        std::fs::create_dir_all(&folder).at(folder.display())?;
        Ok(Samples {
            teacher,
            untrained,
            folder,
            prompts,
            guidance,
            flags,
            size,
        })
    }

    /// Draws a grid of a student's pictures after `step` updates: a row per prompt, a column per
    /// number of steps; last the picture of many steps, the teacher's or where it has none the
    /// student's. Returns the paired errors by steps.
    pub(crate) fn draw(&self, student: &Path, step: u64) -> Result<Map<String, Value>, Failure> {
        let (last, whose) = match self.untrained {
            true => (self.many_steps(student)?, "the student"),
            false => (self.teachers()?, "the teacher"),
        };
        let mut columns = Vec::new();
        let mut errors = Map::new();
        for steps in STEPS {
            let flags = ["--steps".to_owned(), steps.to_string()];
            let decoded = self.sampled(student, &flags)?;
            let error = paired_error(&decoded, &last).at(student.display())?;
            errors.insert(steps.to_string(), json!(error));
            columns.push(decoded);
        }
        columns.push(last);
        let picture = grid(&columns).at(student.display())?;
        let about = format!(
            "columns: {} steps of the student after {step} updates, {TEACHER_STEPS} of {whose}; \
             rows: {}",
            STEPS.map(|steps| steps.to_string()).join(", "),
            self.prompts.join(" | ")
        );
        let texts = BTreeMap::from([("Description", about)]);
        let path = self.folder.join(format!("step-{step:06}.png"));
        outputs::write(&path, &[png::encode(&picture, 0, &texts)?.into()])?;
        Ok(errors)
    }

    /// The teacher's own pictures, made once.
    fn teachers(&self) -> Result<Tensor, Failure> {
        let file = self.folder.join("teacher.safetensors");
        if file.is_file() {
            let mut stored = tensors::read(&file)?;
            if let Some(decoded) = stored.remove("decoded") {
                return Ok(decoded);
            }
        }
        let decoded = self.many_steps(self.teacher.path())?;
        tensors::write(&file, &[("decoded".to_owned(), decoded.clone())])?;
        Ok(decoded)
    }

    /// The pictures of a model by the sampler and steps of teachers.
    fn many_steps(&self, model: &Path) -> Result<Tensor, Failure> {
        let mut flags = ["--sampler", "ddim", "--spacing", "trailing", "--steps"]
            .map(str::to_owned)
            .to_vec();
        flags.push(TEACHER_STEPS.to_string());
        if let Some(guidance) = self.guidance {
            flags.extend(["--cfg-scale".to_owned(), guidance.to_string()]);
        }
        self.sampled(model, &flags)
    }

    /// The pictures that `splamc sample` makes of a model: f32 `[prompts, 3, height, width]`.
    fn sampled(&self, model: &Path, flags: &[String]) -> Result<Tensor, Failure> {
        let request = Request {
            prompts: &self.prompts,
            seed: SEED,
            size: Some(self.size),
            flags: [flags, &self.flags].concat(),
        };
        sampled::decoded(model, &request, &self.folder)
    }
}

/// Says how far a student is from its teacher.
pub(crate) fn say(step: u64, errors: &Map<String, Value>) {
    let pairs = errors.iter();
    let pairs = pairs.map(|(steps, error)| {
        let error = error.as_f64().unwrap_or(f64::NAN);
        format!("{error:.4} in {steps}")
    });
    let pairs: Vec<String> = pairs.collect();
    let pairs = pairs.join(", ");
    progress::note(format!(
        "update {step}: paired error to the teacher {pairs} steps"
    ));
}

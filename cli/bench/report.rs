//! What a measurement says: one JSON object, or tables for people.
//!
//! Takes times, rows and ceilings; returns text. Shares are of the run that the rows come from.

use std::collections::BTreeMap;
use std::fmt::Write;

use compiler::graph::TensorType;
use compiler::program::Program;
use runtime::devices::Ceilings;
use runtime::profile::KernelRow;
use serde_json::{Value, json};

/// Kernels with a smaller share of the run are counted, not shown, in the table for people.
const SHARE_SHOWN: f64 = 0.001;

/// A finished measurement.
pub(super) struct Report<'a> {
    pub(super) target: &'static str,
    pub(super) component: &'a str,
    pub(super) program: &'a Program,
    pub(super) threads: usize,
    /// Seconds of each run, fastest first.
    pub(super) seconds: Vec<f64>,
    /// Seconds on processors of one run.
    pub(super) cpu_seconds: Option<f64>,
    /// The kernels of the run in the middle.
    pub(super) rows: &'a [KernelRow],
    pub(super) before: Ceilings,
    pub(super) after: Ceilings,
    pub(super) peak_resident_bytes: Option<u64>,
}

/// What a line of a table sums.
#[derive(Default)]
struct Line {
    calls: u64,
    seconds: f64,
    flops: u64,
    product_flops: u64,
    bytes: u64,
    predicted: f64,
    modelled: f64,
}

impl Line {
    fn add(&mut self, row: &KernelRow, ceilings: Ceilings) {
        self.calls += row.calls;
        self.seconds += row.seconds;
        self.flops += row.flops;
        self.product_flops += row.product_flops;
        self.bytes += row.bytes;
        self.modelled += row.modelled_seconds;
        self.predicted += row.predicted_seconds(ceilings);
    }
}

impl Report<'_> {
    fn ceilings(&self) -> Ceilings {
        self.before.best(self.after)
    }

    /// The run in the middle; of an even number, the faster of the two.
    fn median(&self) -> f64 {
        self.seconds[(self.seconds.len() - 1) / 2]
    }

    fn total(&self) -> Line {
        let mut total = Line::default();
        let ceilings = self.ceilings();
        self.rows.iter().for_each(|row| total.add(row, ceilings));
        total
    }

    /// One object with all figures.
    pub(super) fn json(&self) -> Value {
        let (plan, cost) = (self.program.plan(), self.program.cost());
        let total = self.total();
        json!({
            "target": self.target,
            "component": self.component,
            "shapes": { "inputs": shapes(self.program.inputs()), "outputs": shapes(self.program.outputs()) },
            "dtype": self.program.outputs().first().map(|(_, ty)| ty.dtype.name()),
            "threads": self.threads,
            "runs": self.seconds.len(),
            "seconds": {
                "min": self.seconds.first(),
                "median": self.median(),
                "max": self.seconds.last(),
            },
            "cpu_seconds": self.cpu_seconds,
            "predicted_seconds": total.predicted,
            "modelled_seconds": total.modelled,
            "flops": cost.flops,
            "flops_per_second": cost.flops as f64 / self.median(),
            "bytes": total.bytes,
            "peak_arena_bytes": plan.peak_bytes(),
            "weight_bytes": cost.weight_bytes,
            "peak_resident_bytes": self.peak_resident_bytes,
            "ceilings": {
                "best": ceilings_json(self.ceilings()),
                "before": ceilings_json(self.before),
                "after": ceilings_json(self.after),
            },
            "kernels": self.rows.iter().map(|row| self.row_json(row)).collect::<Vec<_>>(),
        })
    }

    fn row_json(&self, row: &KernelRow) -> Value {
        let ceilings = self.ceilings();
        let flops_per_second = row.flops as f64 / row.seconds;
        let bytes_per_second = row.bytes as f64 / row.seconds;
        let predicted = row.predicted_seconds(ceilings);
        json!({
            "operator": row.operator,
            "program": row.program,
            "block": row.block,
            "operands": row.operands.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "result": row.result.to_string(),
            "calls": row.calls,
            "seconds": row.seconds,
            "share": row.seconds / self.median(),
            "flops": row.flops,
            "flops_per_second": flops_per_second,
            "gemm_share": flops_per_second / ceilings.gemm_flops_per_second,
            "product_flops": row.product_flops,
            "product_gemm_share": row.product_flops as f64 / row.seconds
                / ceilings.gemm_flops_per_second,
            "bytes": row.bytes,
            "bytes_per_second": bytes_per_second,
            "copy_share": bytes_per_second / ceilings.copy_bytes_per_second,
            "predicted_seconds": predicted,
            "predicted_share": predicted / row.seconds,
            "modelled_seconds": row.modelled_seconds,
        })
    }

    /// Totals, a table by operator and a table by kernel.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        self.write_totals(&mut text).expect("a string takes all");
        self.write_lines(&mut text).expect("a string takes all");
        text
    }

    fn write_totals(&self, text: &mut String) -> std::fmt::Result {
        let (plan, cost) = (self.program.plan(), self.program.cost());
        let (first, last) = (self.seconds[0], self.seconds[self.seconds.len() - 1]);
        let gigaflops = cost.flops as f64 / self.median() / 1e9;
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        writeln!(
            text,
            "{} on {}, {} threads",
            self.component, self.target, self.threads
        )?;
        for (name, ty) in self.program.inputs() {
            writeln!(text, "  input      {name}: {ty}")?;
        }
        writeln!(
            text,
            "  seconds    {:.4} median of {}, {first:.4} to {last:.4}; {:.4} at the roofline, {:.4} \
             modelled",
            self.median(),
            self.seconds.len(),
            self.total().predicted,
            self.total().modelled,
        )?;
        if let Some(seconds) = self.cpu_seconds {
            writeln!(text, "  CPU        {seconds:.3} seconds per run")?;
        }
        writeln!(
            text,
            "  FLOPs      {:.2} G, {gigaflops:.1} GFLOP/s",
            cost.flops as f64 / 1e9
        )?;
        let resident = self.peak_resident_bytes.map(megabytes);
        writeln!(
            text,
            "  memory     {} of values, {} of weights, {} resident at the peak",
            megabytes(plan.peak_bytes()),
            megabytes(cost.weight_bytes),
            resident.as_deref().unwrap_or("an unknown amount"),
        )?;
        for (when, ceilings) in [("before", self.before), ("after", self.after)] {
            writeln!(
                text,
                "  ceilings   {:.1} GFLOP/s, {:.1} GB/s {when}",
                ceilings.gemm_flops_per_second / 1e9,
                ceilings.copy_bytes_per_second / 1e9
            )?;
        }
        Ok(())
    }

    fn write_lines(&self, text: &mut String) -> std::fmt::Result {
        let ceilings = self.ceilings();
        let mut operators: BTreeMap<&str, Line> = BTreeMap::new();
        for row in self.rows {
            operators
                .entry(row.operator)
                .or_default()
                .add(row, ceilings);
        }
        let mut operators: Vec<(&str, Line)> = operators.into_iter().collect();
        operators.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        let header = format!(
            "\n{:>5} {:>10} {:>6} {:>8} {:>7} {:>7} {:>7} {:>10} {:>10}  ",
            "calls", "ms", "share", "GFLOP/s", "of gemm", "GB/s", "of copy", "roofline", "modelled"
        );
        writeln!(text, "{header}operator")?;
        for (operator, line) in &operators {
            writeln!(text, "{}  {operator}", self.line(line))?;
        }
        let outside = Line {
            seconds: self.median() - self.total().seconds,
            ..Line::default()
        };
        writeln!(text, "{}  outside of operators", self.line(&outside))?;
        writeln!(text, "{header}kernel")?;
        let shown = |row: &&KernelRow| row.seconds >= SHARE_SHOWN * self.median();
        for row in self.rows.iter().filter(shown) {
            let mut line = Line::default();
            line.add(row, ceilings);
            let operands: Vec<String> = row.operands.iter().map(ToString::to_string).collect();
            let (operator, operands) = (row.operator, operands.join(", "));
            let result = &row.result;
            writeln!(
                text,
                "{}  {} {:?} {operator}({operands}) : {result}",
                self.line(&line),
                row.program,
                row.block,
            )?;
        }
        let hidden = self.rows.len() - self.rows.iter().filter(shown).count();
        if hidden > 0 {
            let share = 100.0 * SHARE_SHOWN;
            writeln!(
                text,
                "and {hidden} kernels below {share:.1}% each; --json has them"
            )?;
        }
        Ok(())
    }

    fn line(&self, line: &Line) -> String {
        let ceilings = self.ceilings();
        let rate = |amount: u64| match line.seconds > 0.0 {
            true => amount as f64 / line.seconds,
            false => 0.0,
        };
        let (flops, bytes) = (rate(line.flops), rate(line.bytes));
        // The ceiling is one of products: what counts are those that are executed.
        let products = match line.product_flops {
            0 => flops,
            product_flops => rate(product_flops),
        };
        format!(
            "{:>5} {:>10.3} {:>5.1}% {:>8.2} {:>6.1}% {:>7.2} {:>6.1}% {:>10.3} {:>10.3}",
            line.calls,
            line.seconds * 1e3,
            100.0 * line.seconds / self.median(),
            flops / 1e9,
            100.0 * products / ceilings.gemm_flops_per_second,
            bytes / 1e9,
            100.0 * bytes / ceilings.copy_bytes_per_second,
            line.predicted * 1e3,
            line.modelled * 1e3,
        )
    }
}

fn shapes(ports: Vec<(String, TensorType)>) -> BTreeMap<String, Vec<usize>> {
    let shape = |(name, ty): (String, TensorType)| {
        let shape = ty.extents().expect("a program has known sizes");
        (name, shape)
    };
    ports.into_iter().map(shape).collect()
}

fn ceilings_json(ceilings: Ceilings) -> Value {
    json!({
        "gemm_flops_per_second": ceilings.gemm_flops_per_second,
        "copy_bytes_per_second": ceilings.copy_bytes_per_second,
    })
}

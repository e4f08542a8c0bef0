use super::kernel::machine::Machine;
pub(crate) use super::math::exp;
pub(crate) fn step(
    machine: Machine,
    s: &mut [f32],
    maxima: &mut [f32],
    sums: &mut [f32],
    o: &mut [f32],
) {
    let width = machine.columns();
    for lane in 0..width {
        let mut most = maxima[lane];
        for row in s.chunks_exact(width) {
            most = most.max(row[lane]);
        }
        let base = if most == f32::NEG_INFINITY { 0.0 } else { most };
        let factor = exp(maxima[lane] - base);
        let mut sum = sums[lane] * factor;
        for row in s.chunks_exact_mut(width) {
            row[lane] = exp(row[lane] - base);
            sum += row[lane];
        }
        for row in o.chunks_exact_mut(width) {
            row[lane] *= factor;
        }
        sums[lane] = sum;
        maxima[lane] = most;
    }
}

//! What the parameters of networks begin with, as PyTorch's layers initialise them.
//!
//! Takes names and shapes of a network's weights, returns distributions. It draws nothing.

use compiler::program::training::{Initial, Layout, Place};

/// The distribution of each parameter of `layout`, in its order: of linear layers and convolutions
/// uniform within `1/√fan_in`, bias included; of norms one, and zero for the bias; of conditions on
/// γ or a guidance scale zero, so that a student begins as its teacher.
///
/// # Source
/// `torch.nn.Linear.reset_parameters`, `torch.nn.modules.conv._ConvNd.reset_parameters` (Kaiming
/// uniform with a = √5), `torch.nn.GroupNorm.reset_parameters`; spec 1.4.
pub fn initial(layout: &Layout) -> Vec<Initial> {
    let places = layout.places().iter();
    places.map(|place| of_parameter(layout, place)).collect()
}

/// The distribution of the matrices of an adapter: Kaiming uniform with a = √5 for the first, zero
/// for the second, so that the adapted network begins as it was (PEFT's default).
pub fn adapter(layout: &Layout) -> Vec<Initial> {
    let places = layout.places().iter();
    let of = |place: &Place| match place.name.ends_with("lora_B.weight") {
        true => Initial::Constant(0.0),
        false => uniform(&place.shape),
    };
    places.map(of).collect()
}

fn of_parameter(layout: &Layout, place: &Place) -> Initial {
    if place.name == "time_embedding.cond_proj.weight" {
        return Initial::Constant(0.0);
    }
    let (layer, kind) = place.name.rsplit_once('.').unwrap_or(("", &place.name));
    if kind == "bias" {
        let weight = format!("{layer}.weight");
        let weight = layout.places().iter().find(|other| other.name == weight);
        return match weight {
            Some(weight) if weight.shape.len() > 1 => uniform(&weight.shape),
            Some(_) | None => Initial::Constant(0.0),
        };
    }
    match place.shape.len() {
        // Norms have one number per channel.
        0 | 1 => Initial::Constant(1.0),
        _ => uniform(&place.shape),
    }
}

/// Within `1/√fan_in` of a weight `[outputs, inputs, …]`.
fn uniform(shape: &[usize]) -> Initial {
    let fan_in: usize = shape.iter().skip(1).product();
    Initial::Uniform {
        bound: 1.0 / (fan_in.max(1) as f64).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_begin_as_pytorchs_layers_do() {
        let parameters = [
            ("conv_in.weight", vec![32, 4, 3, 3]),
            ("conv_in.bias", vec![32]),
            ("norm.weight", vec![32]),
            ("norm.bias", vec![32]),
            ("time_embedding.cond_proj.weight", vec![32, 16]),
            ("to_q.weight", vec![32, 16]),
        ];
        let parameters = parameters.map(|(name, shape)| (name.to_owned(), shape));
        let layout = Layout::new(parameters.into()).expect("they are few");
        let uniform = |bound| Initial::Uniform { bound };
        assert_eq!(
            initial(&layout),
            [
                uniform(1.0 / 6.0),
                uniform(1.0 / 6.0),
                Initial::Constant(1.0),
                Initial::Constant(0.0),
                Initial::Constant(0.0),
                uniform(0.25),
            ]
        );
    }
}

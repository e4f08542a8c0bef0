//! Pixels of a scene.
//!
//! Takes: a scene.
//! Gives: `SIDE` × `SIDE` pixels of red, green and blue, 8 bits each, with edges smooth over one
//! pixel.
//! Never: draws a random number.

use crate::scene::{Object, SIDE, Scene, Texture};

/// Returns the pixels of a scene, row by row.
pub(crate) fn render(scene: &Scene) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(SIDE * SIDE * 3);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let at = [column as f32 + 0.5, row as f32 + 0.5];
            let shade = shade(scene.texture, at);
            let mut colour = scene.ground.map(|channel| channel * shade);
            for object in scene.others.iter().chain([&scene.object]) {
                let cover = (0.5 - distance(object, at)).clamp(0.0, 1.0);
                for (channel, own) in colour.iter_mut().zip(object.colour) {
                    *channel += (own - *channel) * cover;
                }
            }
            pixels.extend(colour.map(|channel| channel.round() as u8));
        }
    }
    pixels
}

/// How bright a background is at a point: 1 where its texture does not darken it.
fn shade(texture: Texture, [x, y]: [f32; 2]) -> f32 {
    const PERIOD: f32 = 12.0;
    const DARK: f32 = 0.72;
    // Multiples of the sine that make an edge of about one pixel.
    const STEEP: f32 = 2.0;
    let wave = |along: f32, shift: f32| (along * std::f32::consts::TAU / PERIOD + shift).sin();
    let pattern = match texture {
        Texture::Plain => 1.0,
        Texture::Rows { shift } => wave(y, shift),
        Texture::Diagonals { shift } => wave((x + y) * std::f32::consts::FRAC_1_SQRT_2, shift),
        Texture::Checks { shift: [p, q] } => 2.0 * wave(x, p) * wave(y, q),
    };
    let light = 0.5 + 0.5 * (STEEP * pattern).clamp(-1.0, 1.0);
    DARK + (1.0 - DARK) * light
}

/// The distance of a point from an object's edge in pixels, negative inside.
fn distance(object: &Object, at: [f32; 2]) -> f32 {
    let [x, y] = [at[0] - object.centre[0], at[1] - object.centre[1]];
    let r = object.radius;
    let bar = |long: f32, wide: f32| (long.abs() - r).max(wide.abs() - 0.33 * r);
    match object.shape {
        0 => x.hypot(y) - r,
        1 => x.abs().max(y.abs()) - 0.85 * r,
        2 => (y - 0.6 * r).max(0.866 * x.abs() - 0.5 * y - 0.55 * r),
        _ => bar(x, y).min(bar(y, x)),
    }
}

//! What one picture shows, and its caption.
//!
//! Takes: the draws of a picture.
//! Gives: a scene: one described object on a described background, a texture and a few small grey
//! objects that no caption mentions. So a caption leaves much of its picture open.
//! Never: knows pixels.

use crate::draws::Draws;

/// The width and height of a picture, in pixels.
pub(crate) const SIDE: usize = 64;

/// Shapes by the word that captions use.
pub(crate) const SHAPES: [&str; 4] = ["circle", "square", "triangle", "cross"];

/// Colours by the word that captions use, in 8 bits per channel.
pub(crate) const COLOURS: [(&str, [f32; 3]); 6] = [
    ("red", [228.0, 34.0, 40.0]),
    ("green", [40.0, 170.0, 62.0]),
    ("blue", [38.0, 82.0, 232.0]),
    ("yellow", [250.0, 222.0, 40.0]),
    ("purple", [142.0, 46.0, 190.0]),
    ("orange", [250.0, 134.0, 22.0]),
];

/// Sizes by word, with the smallest and largest radius in pixels.
const SIZES: [(&str, f32, f32); 2] = [("small", 7.5, 9.5), ("large", 13.5, 16.5)];

/// Positions by phrase, with the centre that the object is drawn around, in pixels.
const POSITIONS: [(&str, f32, f32); 5] = [
    ("at the top left", 19.0, 19.0),
    ("at the top right", 45.0, 19.0),
    ("at the bottom left", 19.0, 45.0),
    ("at the bottom right", 45.0, 45.0),
    ("in the middle", 32.0, 32.0),
];

/// How far a centre is drawn from that of its position, in pixels.
const POSITION_JITTER: f32 = 2.5;

/// How often a caption says the size, and how often the position.
const SAID: f32 = 0.6;

/// The texture of a background; `shift` moves it, in radians.
#[derive(Clone, Copy)]
pub(crate) enum Texture {
    Plain,
    Rows { shift: f32 },
    Diagonals { shift: f32 },
    Checks { shift: [f32; 2] },
}

impl Texture {
    /// The number of the kind of texture.
    pub(crate) fn kind(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Rows { .. } => 1,
            Self::Diagonals { .. } => 2,
            Self::Checks { .. } => 3,
        }
    }
}

/// A shape at a place; lengths in pixels.
pub(crate) struct Object {
    /// The number of the shape in [`SHAPES`].
    pub(crate) shape: usize,
    pub(crate) centre: [f32; 2],
    pub(crate) radius: f32,
    pub(crate) colour: [f32; 3],
}

/// All that one picture shows.
pub(crate) struct Scene {
    pub(crate) object: Object,
    pub(crate) texture: Texture,
    /// The colour of the background, before its texture.
    pub(crate) ground: [f32; 3],
    /// Objects that no caption mentions.
    pub(crate) others: Vec<Object>,
    colour: usize,
    background: usize,
    size: usize,
    position: usize,
    says_size: bool,
    says_position: bool,
}

impl Scene {
    /// Draws a scene.
    pub(crate) fn draw(draws: &mut Draws) -> Self {
        let shape = draws.index(SHAPES.len());
        let colour = draws.index(COLOURS.len());
        // Any colour but the object's own.
        let background = (colour + 1 + draws.index(COLOURS.len() - 1)) % COLOURS.len();
        let size = draws.index(SIZES.len());
        let position = draws.index(POSITIONS.len());
        let (_, low, high) = SIZES[size];
        let (_, x, y) = POSITIONS[position];
        let object = Object {
            shape,
            centre: [
                x + draws.uniform(-POSITION_JITTER, POSITION_JITTER),
                y + draws.uniform(-POSITION_JITTER, POSITION_JITTER),
            ],
            radius: draws.uniform(low, high),
            colour: COLOURS[colour].1,
        };
        let brightness = draws.uniform(0.85, 1.0);
        let texture = draw_texture(draws);
        let others = draw_others(draws, &object);
        Self {
            object,
            texture,
            ground: COLOURS[background].1.map(|channel| channel * brightness),
            others,
            colour,
            background,
            size,
            position,
            says_size: draws.chance(SAID),
            says_position: draws.chance(SAID),
        }
    }

    /// The caption: shape, colour and background always, size and position where the scene says so.
    pub(crate) fn caption(&self) -> String {
        let mut object = String::new();
        if self.says_size {
            object += SIZES[self.size].0;
            object.push(' ');
        }
        object += COLOURS[self.colour].0;
        object.push(' ');
        object += SHAPES[self.object.shape];
        if self.says_position {
            object.push(' ');
            object += POSITIONS[self.position].0;
        }
        let background = COLOURS[self.background].0;
        let (a, an) = (article(&object), article(background));
        format!("{a} {object} on {an} {background} background")
    }

    /// The numbers of shape, colour, background, size, position, texture, and how many other
    /// objects there are.
    pub(crate) fn labels(&self) -> [usize; 7] {
        [
            self.object.shape,
            self.colour,
            self.background,
            self.size,
            self.position,
            self.texture.kind(),
            self.others.len(),
        ]
    }
}

fn article(words: &str) -> &'static str {
    if words.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn draw_texture(draws: &mut Draws) -> Texture {
    let kind = draws.index(4);
    let mut shift = || draws.uniform(0.0, std::f32::consts::TAU);
    match kind {
        0 => Texture::Plain,
        1 => Texture::Rows { shift: shift() },
        2 => Texture::Diagonals { shift: shift() },
        _ => Texture::Checks {
            shift: [shift(), shift()],
        },
    }
}

/// Draws two to four small grey objects that touch neither `object` nor one another.
fn draw_others(draws: &mut Draws, object: &Object) -> Vec<Object> {
    const GREYS: [f32; 3] = [14.0, 128.0, 244.0];
    // Pixels between two objects, and between an object and the border.
    const GAP: f32 = 2.0;
    let count = 2 + draws.index(3);
    let mut others: Vec<Object> = Vec::with_capacity(count);
    while others.len() < count {
        let radius = draws.uniform(3.5, 5.0);
        let (low, high) = (radius + GAP, SIDE as f32 - radius - GAP);
        let other = Object {
            shape: draws.index(3),
            centre: [draws.uniform(low, high), draws.uniform(low, high)],
            radius,
            colour: [GREYS[draws.index(GREYS.len())]; 3],
        };
        let apart = |a: &Object| {
            let [dx, dy] = [0, 1].map(|axis| a.centre[axis] - other.centre[axis]);
            // A square's corner is further out than its radius says; 1.2 covers it.
            dx.hypot(dy) > 1.2 * (a.radius + other.radius) + GAP
        };
        if apart(object) && others.iter().all(apart) {
            others.push(other);
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_depends_on_the_seed_and_the_number_alone() {
        let captions = |seed| {
            let scenes = (0..3).map(|index| Scene::draw(&mut Draws::new(seed, index)));
            scenes.map(|scene| scene.caption()).collect::<Vec<_>>()
        };
        assert_eq!(captions(1), captions(1));
        assert_ne!(captions(1), captions(2));
        let last = Scene::draw(&mut Draws::new(1, 2)).caption();
        assert_eq!(captions(1)[2], last);
    }

    #[test]
    fn captions_say_what_a_scene_shows() {
        for index in 0..200 {
            let scene = Scene::draw(&mut Draws::new(0, index));
            let (caption, [shape, colour, background, ..]) = (scene.caption(), scene.labels());
            let (colour, background) = (COLOURS[colour].0, COLOURS[background].0);
            assert!(
                caption.contains(&format!("{colour} {}", SHAPES[shape])),
                "{caption}"
            );
            assert!(
                caption.ends_with(&format!("{background} background")),
                "{caption}"
            );
            assert_ne!(colour, background);
            let start = caption.split(' ').nth(1).expect("a second word");
            assert_eq!(
                caption.starts_with("an "),
                start.starts_with('o'),
                "{caption}"
            );
        }
    }
}

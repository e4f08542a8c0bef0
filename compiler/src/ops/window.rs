//! Windows that slide over the spatial axes of an image, for convolution and pooling.
//!
//! Takes kernel extents, strides, paddings and dilations, gives the extents of the result or the
//! constraint that fails, and for the oracle the elements under each window. It never reads data.

use crate::graph::TensorType;
use crate::ops::Violation;
use crate::ops::shape::{each_index, offset, strides};
use crate::value::dim::Dim;
use crate::value::extents::ELEMENTS_MAX;

/// A window per position of the result; one entry per spatial axis in every list.
#[derive(Debug)]
pub(crate) struct Windows<'a> {
    pub(crate) kernel: &'a [usize],
    pub(crate) strides: &'a [usize],
    pub(crate) pads_before: &'a [usize],
    pub(crate) pads_after: &'a [usize],
    pub(crate) dilations: &'a [usize],
}

/// One element of the image under an element of the kernel, both as offsets in their spatial axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tap {
    pub(crate) kernel: usize,
    pub(crate) image: usize,
}

/// The positions of the three elements that a product of a convolution relates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product {
    /// In the image, `[batch, channels, …]`.
    pub(crate) image: usize,
    /// In the kernel, `[features, channels / groups, …]`.
    pub(crate) kernel: usize,
    /// In the result, `[batch, features, …]`.
    pub(crate) position: usize,
}

impl Windows<'_> {
    /// The number of positions on each axis of an image whose spatial extents are `image`:
    /// `floor((image + before + after − window) / stride) + 1` with
    /// `window = (kernel − 1) · dilation + 1`.
    ///
    /// # Errors
    /// `lists` when a list has not one entry per axis or an entry is out of range, `fits` when a
    /// window is larger than the padded image.
    pub(crate) fn positions(
        &self,
        lists: &'static str,
        fits: &'static str,
        image: &[Dim],
    ) -> Result<Vec<Dim>, Violation> {
        let entries = [
            ("kernel", self.kernel, 1),
            ("strides", self.strides, 1),
            ("pads_before", self.pads_before, 0),
            ("pads_after", self.pads_after, 0),
            ("dilations", self.dilations, 1),
        ];
        for (name, list, least) in entries {
            check_list(lists, name, list, image.len(), least)?;
        }
        image
            .iter()
            .enumerate()
            .map(|(axis, extent)| self.positions_on(fits, axis, extent))
            .collect()
    }

    fn positions_on(
        &self,
        fits: &'static str,
        axis: usize,
        extent: &Dim,
    ) -> Result<Dim, Violation> {
        let dilation = Dim::from(self.dilations[axis]);
        let window = Dim::from(self.kernel[axis] - 1)
            .mul(&dilation)
            .add(&Dim::from(1));
        let padded = extent
            .add(&Dim::from(self.pads_before[axis]))
            .add(&Dim::from(self.pads_after[axis]));
        let room = padded.sub(&window);
        // Saturated windows are larger than every padded extent, see `check_list`.
        let short = room.known().is_some_and(|room| room < 0);
        let found = format_args!("a window of {window} on a padded extent of {padded}");
        Violation::unless(!short, fits, found, "a window that fits")?;
        let stride = i64::try_from(self.strides[axis]).expect("checked to be small");
        Ok(room.floor_div(stride).add(&Dim::from(1)))
    }

    /// Calls `visit` with the index of each position in row-major order and the taps that lie
    /// inside of the image.
    pub(crate) fn each(
        &self,
        image: &[usize],
        positions: &[usize],
        mut visit: impl FnMut(&[usize], &[Tap]),
    ) {
        let (image_strides, kernel_strides) = (strides(image), strides(self.kernel));
        let mut taps = Vec::new();
        each_index(positions, |position| {
            taps.clear();
            each_index(self.kernel, |tap| {
                let image = self.inside(position, tap, image);
                taps.extend(image.map(|at| Tap {
                    kernel: offset(tap, &kernel_strides),
                    image: offset(&at, &image_strides),
                }));
            });
            visit(position, &taps);
        });
    }

    /// Visits every product of a convolution with `groups` groups, given the whole shapes of image,
    /// kernel and result.
    pub(crate) fn each_product(
        &self,
        groups: usize,
        [image, kernel, positions]: [&[usize]; 3],
        mut visit: impl FnMut(Product),
    ) {
        let [image_size, kernel_size, size] =
            [image, kernel, positions].map(|shape| shape[2..].iter().product::<usize>());
        let (channels, features, depth) = (image[1], kernel[0], kernel[1]);
        let mut position = 0;
        self.each(&image[2..], &positions[2..], |_, taps| {
            for (b, o) in (0..image[0]).flat_map(|b| (0..features).map(move |o| (b, o))) {
                let group = o / (features / groups);
                for (c, tap) in (0..depth).flat_map(|c| taps.iter().map(move |tap| (c, tap))) {
                    let channel = b * channels + group * depth + c;
                    visit(Product {
                        image: channel * image_size + tap.image,
                        kernel: (o * depth + c) * kernel_size + tap.kernel,
                        position: (b * features + o) * size + position,
                    });
                }
            }
            position += 1;
        });
    }

    /// The index in the image under element `tap` of the window at `position`, unless that is
    /// padding.
    fn inside(&self, position: &[usize], tap: &[usize], image: &[usize]) -> Option<Vec<usize>> {
        (0..image.len())
            .map(|axis| {
                let at = position[axis] * self.strides[axis] + tap[axis] * self.dilations[axis];
                let at = at.checked_sub(self.pads_before[axis])?;
                (at < image[axis]).then_some(at)
            })
            .collect()
    }
}

/// Checks that a list has `axes` entries from `least` to [`ELEMENTS_MAX`]: sums of a few such
/// numbers stay far from the limits of `i64`.
fn check_list(
    constraint: &'static str,
    name: &str,
    list: &[usize],
    axes: usize,
    least: usize,
) -> Result<(), Violation> {
    let most = usize::try_from(ELEMENTS_MAX).unwrap_or(usize::MAX);
    let holds = list.len() == axes && list.iter().all(|entry| (least..=most).contains(entry));
    let found = format_args!("{name} {list:?}");
    let wanted = format_args!("{axes} entries from {least} to {most}");
    Violation::unless(holds, constraint, found, wanted)
}

/// Floating-point operations of a convolution: two for each element of a filter at each of
/// `positions`.
pub(crate) fn conv_flops(positions: &TensorType, kernel: &TensorType) -> Dim {
    let filter = kernel.shape[1..].iter();
    let products = filter.fold(positions.elements(), |product, extent| product.mul(extent));
    products.mul(&Dim::from(2))
}

//! Reads the regions of a function, the text that they print as; constants are beside it.
//!
//! Takes text that may be hostile and the constants in the order of their buffers, returns regions
//! that keep every rule of [`crate::region::verify`], or the first place that is wrong. It neither
//! panics, nor recurses deeper than a limit, nor allocates more than a multiple of the text.
//!
//! ```text
//! regions = "regions" name "{" given* region* joined* result* "}"
//! given   = "b"N "=" (("input" | "weight" | "state") string | "constant") ":" typed
//! region  = "r"N "=" class [anchor "(" "x"N, … ")" ":" type] ["@" string] operand* output+
//! operand = "x"N "=" access
//! output  = node* "b"N ["[" index, … "]"] ":" typed "=" leaf ["over" extents] ["with" "moments" "b"N]
//! node    = "n"N "=" op ["{" attribute, … "}"] "(" leaf, … ")"
//! leaf    = "n"N | "x"N | tensor | "anchor" ["[" index, … "]"]
//! joined  = "b"N "=" "joined" "b"N, … ":" typed
//! result  = "return" string "b"N
//! typed   = dtype extents ["order" "[" axis, … "]"]
//! ```
//! Regions and operands count from 0 in order, nodes from the number of different leaves that an
//! output reads. Numbers of buffers need not follow one another.

use thiserror::Error;

use crate::graph::text::cursor::{Cursor, Token};
use crate::graph::text::{ParseError, attributes, op, tensor};
use crate::graph::{Param, Role};
use crate::ops::{Attribute, Op};
use crate::region::{
    Anchor, Buffer, BufferData, Content, Index, Joined, Node, Output, Region, RegionError, Regions,
    verify,
};
use crate::value::dtype::DType;
use crate::value::extents::Extents;
use crate::value::tensor::Tensor;
use access::{extents, index, list, numbered, read_access, whole_number};

pub(crate) mod access;

/// An epilogue has at most this many nodes; formation stops at an eighth of it.
const NODES_MAX: usize = 1024;

/// Why text is not the regions of a function.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RegionsError {
    /// The text leaves the grammar.
    #[error(transparent)]
    Text(#[from] ParseError),
    /// The constants beside the text are not those that it names.
    #[error("{buffer} is a constant {wanted:?}, but {found:?} is stored")]
    Constant {
        /// The buffer.
        buffer: Buffer,
        /// The type that is stored, if there is a constant left.
        found: Option<Extents>,
        /// The type in the text.
        wanted: Extents,
    },
    /// More constants are stored than the text names.
    #[error("{found} constants are stored, but the regions have {wanted}")]
    Constants {
        /// Constants stored.
        found: usize,
        /// Constants named.
        wanted: usize,
    },
    /// The regions break a rule.
    #[error(transparent)]
    Rule(#[from] RegionError),
}

/// Reads the regions of one function. `constants` holds the elements of constant buffers, in the
/// order of [`Regions::constants`].
///
/// # Errors
/// The first place where the text leaves the grammar, constants that are not those of the text, or
/// the first rule that the regions break.
pub fn parse(text: &str, constants: &[Tensor]) -> Result<Regions, RegionsError> {
    let mut reader = Reader {
        cursor: Cursor::new(text),
        buffers_max: text.len(),
        buffers: Vec::new(),
    };
    let mut regions = reader.regions()?;
    let mut left = constants.iter();
    let mut named = 0;
    for (number, data) in regions.buffers.iter_mut().enumerate() {
        if let Content::Constant(_) = &data.content {
            let found = left.next();
            let given = found.filter(|tensor| extents_of(tensor) == data.extents);
            let Some(tensor) = given else {
                return Err(RegionsError::Constant {
                    buffer: Buffer(number as u32),
                    found: found.map(extents_of),
                    wanted: data.extents.clone(),
                });
            };
            data.content = Content::Constant(tensor.clone());
            named += 1;
        }
    }
    if left.next().is_some() {
        let (found, wanted) = (constants.len(), named);
        return Err(RegionsError::Constants { found, wanted });
    }
    verify(&regions)?;
    Ok(regions)
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    /// No text needs as many buffers as it has bytes.
    buffers_max: usize,
    /// What is known of each buffer so far.
    buffers: Vec<Option<BufferData>>,
}

/// An operand of a node.
enum Operand {
    /// An earlier node by its number.
    Node(usize),
    /// The anchor at the indices of the domain, which is not known yet.
    Anchor,
    /// Any other leaf.
    Leaf(Node),
}

impl Reader<'_> {
    fn regions(&mut self) -> Result<Regions, ParseError> {
        self.cursor.keyword("regions", "`regions`")?;
        let name = self.cursor.name("the name of the function")?;
        self.cursor.expect('{', "`{`")?;
        let mut regions = Regions {
            name,
            buffers: Vec::new(),
            regions: Vec::new(),
            joined: Vec::new(),
            results: Vec::new(),
        };
        while is_numbered(&self.cursor, 'b') && regions.regions.is_empty() {
            self.given()?;
        }
        while is_numbered(&self.cursor, 'r') {
            let region = self.region(regions.regions.len())?;
            regions.regions.push(region);
        }
        while is_numbered(&self.cursor, 'b') {
            regions.joined.push(self.joined()?);
        }
        while self.cursor.skip_word("return") {
            let name = self.cursor.string("the name of the result")?;
            regions.results.push((name, self.buffer()?));
        }
        self.cursor
            .expect('}', "a buffer, a region, `return` or `}`")?;
        if self.cursor.token() != Token::End {
            return Err(self.cursor.wanted("the end of the text"));
        }
        // Numbers of buffers that fusion left without use.
        let none = || {
            let shape = vec![0];
            let dtype = DType::U8;
            BufferData::new(Extents { dtype, shape }, Content::Computed)
        };
        let buffers = self.buffers.drain(..);
        regions.buffers = buffers.map(|data| data.unwrap_or_else(none)).collect();
        Ok(regions)
    }

    fn given(&mut self) -> Result<(), ParseError> {
        let start = self.cursor.start();
        let buffer = self.buffer()?;
        self.cursor.expect('=', "`=`")?;
        let word = self
            .cursor
            .read("`input`, `weight`, `state` or `constant`", |token| {
                let word = token.word()?;
                (word == "constant" || Role::from_word(word).is_some()).then_some(word)
            })?;
        let content = match Role::from_word(word) {
            Some(role) => {
                let name = self.cursor.string("the parameter's name")?;
                Content::Param(Param { role, name })
            }
            // The elements are beside the text.
            None => Content::Constant(Tensor::from_i64(&[0], &[])),
        };
        let data = self.typed(content)?;
        self.define(start, buffer, data)
    }

    fn region(&mut self, number: usize) -> Result<Region, ParseError> {
        self.count('r', number)?;
        let class_start = self.cursor.start();
        let class = self.cursor.word("the class of the region")?;
        let (anchor, written) = match class {
            "pointwise" => (Anchor::Pointwise, None),
            _ => self.anchor()?,
        };
        if anchor.class().name() != class {
            return Err(self
                .cursor
                .wanted_at(class_start, "the class of the anchor"));
        }
        let origin = match self.cursor.skip('@') {
            true => self.cursor.string("the origin in quotes")?,
            false => String::new(),
        };
        let mut region = Region {
            anchor,
            operands: Vec::new(),
            outputs: Vec::new(),
            origin,
        };
        while is_numbered(&self.cursor, 'x') {
            self.count('x', region.operands.len())?;
            region.operands.push(read_access(&mut self.cursor)?);
        }
        if region.operands.len() < region.anchor_operands() {
            return Err(self.cursor.wanted("an operand of the anchor"));
        }
        let inferred = region.infer_anchor().ok().flatten();
        let inferred = inferred.and_then(|ty| {
            let (dtype, shape) = (ty.dtype, ty.extents()?);
            Some(Extents { dtype, shape })
        });
        if written != inferred {
            let wanted = "an anchor that takes its operands and has this type";
            return Err(self.cursor.wanted_at(class_start, wanted));
        }
        while self.is_output() {
            region.outputs.push(self.output()?);
        }
        match region.outputs.is_empty() {
            true => Err(self.cursor.wanted("a buffer that the region stores")),
            false => Ok(region),
        }
    }

    /// Reads an operator on the first operands, and its type.
    fn anchor(&mut self) -> Result<(Anchor, Option<Extents>), ParseError> {
        let start = self.cursor.start();
        let name = self.cursor.word("the name of an operator")?;
        let attributes = attributes(&mut self.cursor, &mut 0)?;
        let statistics: Vec<(&str, &Attribute)> = attributes
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect();
        let count = |number: &i64| usize::try_from(*number).unwrap_or(0);
        let anchor = match (name, statistics.as_slice()) {
            (
                "statistics",
                [
                    ("groups", Attribute::Int(groups)),
                    ("epsilon", Attribute::Float(epsilon)),
                ],
            ) => Anchor::Statistics {
                groups: count(groups),
                epsilon: *epsilon,
            },
            (
                "merge_moments",
                [
                    ("groups", Attribute::Int(groups)),
                    ("epsilon", Attribute::Float(epsilon)),
                    ("count", Attribute::Int(elements)),
                ],
            ) => Anchor::MergeMoments {
                groups: count(groups),
                epsilon: *epsilon,
                count: count(elements),
            },
            (_, _) => {
                let op = op(&self.cursor, start, name, &attributes)?;
                Anchor::Op { op, operands: 0 }
            }
        };
        self.cursor.expect('(', "`(`")?;
        let mut operands = 0;
        while !self.cursor.skip(')') {
            if operands > 0 {
                self.cursor.expect(',', "`,` or `)`")?;
            }
            let wanted = "the operands of the anchor in order: x0, x1, …";
            if self.cursor.token() != Token::Word(&format!("x{operands}")) {
                return Err(self.cursor.wanted(wanted));
            }
            self.cursor.advance();
            operands += 1;
        }
        let anchor = match anchor {
            Anchor::Op { op, .. } => Anchor::Op { op, operands },
            Anchor::Pointwise | Anchor::Statistics { .. } | Anchor::MergeMoments { .. } => {
                if operands != 1 {
                    return Err(self.cursor.wanted_at(start, "one operand"));
                }
                anchor
            }
        };
        self.cursor.expect(':', "`:` and the type of the anchor")?;
        let (dtype, shape) = (self.cursor.dtype()?, extents(&mut self.cursor)?);
        Ok((anchor, Some(Extents { dtype, shape })))
    }

    fn is_output(&self) -> bool {
        is_numbered(&self.cursor, 'b') || is_numbered(&self.cursor, 'n')
    }

    fn output(&mut self) -> Result<Output, ParseError> {
        let mut applied: Vec<(Op, Vec<Operand>)> = Vec::new();
        let mut first = None;
        while is_numbered(&self.cursor, 'n') {
            let start = self.cursor.start();
            let number = numbered(&mut self.cursor, 'n', "a node such as n7")? as usize;
            let expected = *first.get_or_insert(number) + applied.len();
            if number != expected || applied.len() == NODES_MAX {
                return Err(self
                    .cursor
                    .wanted_at(start, "the next of at most 1024 nodes"));
            }
            self.cursor.expect('=', "`=`")?;
            applied.push(self.node()?);
        }
        let start = self.cursor.start();
        let buffer = self.buffer()?;
        let store = match self.cursor.skip('[') {
            true => Some(list(&mut self.cursor, index)?),
            false => None,
        };
        let data = self.typed(Content::Computed)?;
        let extents = data.extents.clone();
        self.cursor.expect('=', "`=`")?;
        let last = leaf(&mut self.cursor)?;
        let domain = match self.cursor.skip_word("over") {
            true => access::extents(&mut self.cursor)?,
            false => extents.shape.clone(),
        };
        let store = store.unwrap_or_else(|| Index::identity(&domain));
        let nodes = nodes(applied, last, first, &domain);
        let bounded = store.iter().all(|index| access::reaches(index, &domain));
        let Some(nodes) = nodes.filter(|_| bounded) else {
            let wanted = "small indices, and nodes that count from the number of different leaves";
            return Err(self.cursor.wanted_at(start, wanted));
        };
        let moments = match self.cursor.skip_word("with") {
            true => {
                self.cursor.keyword("moments", "`moments`")?;
                let moments = self.buffer()?;
                let [batch, channels] = [0, 1].map(|axis| extents.shape.get(axis).copied());
                let shape = [batch.unwrap_or(0), channels.unwrap_or(0), 2].to_vec();
                let dtype = extents.dtype.accumulator();
                let data = BufferData::new(Extents { dtype, shape }, Content::Computed);
                self.define(start, moments, data)?;
                Some(moments)
            }
            false => None,
        };
        self.define(start, buffer, data)?;
        Ok(Output {
            buffer,
            store,
            domain,
            nodes,
            moments,
        })
    }

    fn node(&mut self) -> Result<(Op, Vec<Operand>), ParseError> {
        let start = self.cursor.start();
        let name = self.cursor.word("the name of an operator")?;
        let attributes = attributes(&mut self.cursor, &mut 0)?;
        let op = op(&self.cursor, start, name, &attributes)?;
        self.cursor.expect('(', "`(`")?;
        let operands = self.cursor.list(')', "`,` or `)`", leaf)?;
        Ok((op, operands))
    }

    fn joined(&mut self) -> Result<Joined, ParseError> {
        let start = self.cursor.start();
        let whole = self.buffer()?;
        self.cursor.expect('=', "`=`")?;
        self.cursor.keyword("joined", "`joined`")?;
        let mut parts = vec![self.buffer()?];
        while self.cursor.skip(',') {
            parts.push(self.buffer()?);
        }
        let data = self.typed(Content::Computed)?;
        self.define(start, whole, data)?;
        Ok(Joined { whole, parts })
    }

    /// Reads `:`, the type of a buffer and the order of its axes.
    fn typed(&mut self, content: Content) -> Result<BufferData, ParseError> {
        self.cursor.expect(':', "`:` and the type")?;
        let (dtype, shape) = (self.cursor.dtype()?, extents(&mut self.cursor)?);
        let order = match self.cursor.skip_word("order") {
            true => {
                self.cursor.expect('[', "`[`")?;
                list(&mut self.cursor, whole_number)?
            }
            false => (0..shape.len()).collect(),
        };
        let extents = Extents { dtype, shape };
        Ok(BufferData {
            extents,
            content,
            order,
        })
    }

    fn buffer(&mut self) -> Result<Buffer, ParseError> {
        let start = self.cursor.start();
        let number = numbered(&mut self.cursor, 'b', "a buffer such as b7")?;
        if number as usize >= self.buffers_max {
            return Err(self.cursor.wanted_at(start, "a buffer of a smaller number"));
        }
        let count = self.buffers.len().max(number as usize + 1);
        self.buffers.resize(count, None);
        Ok(Buffer(number))
    }

    fn define(&mut self, start: usize, buffer: Buffer, data: BufferData) -> Result<(), ParseError> {
        match self.buffers[buffer.0 as usize].replace(data) {
            None => Ok(()),
            Some(_) => Err(self.cursor.wanted_at(start, "each buffer defined once")),
        }
    }

    /// Goes past `letter` with this number and `=`.
    fn count(&mut self, letter: char, number: usize) -> Result<(), ParseError> {
        const WANTED: &str = "the next number: they count from 0";
        if self.cursor.token() != Token::Word(&format!("{letter}{number}")) {
            return Err(self.cursor.wanted(WANTED));
        }
        self.cursor.advance();
        self.cursor.expect('=', "`=`")
    }
}

fn leaf(cursor: &mut Cursor<'_>) -> Result<Operand, ParseError> {
    const WANTED: &str = "`anchor`, an operand such as x1, a node such as n7 or a number";
    if is_numbered(cursor, 'n') {
        let number = numbered(cursor, 'n', WANTED)?;
        return Ok(Operand::Node(number as usize));
    }
    if is_numbered(cursor, 'x') {
        let number = numbered(cursor, 'x', WANTED)?;
        return Ok(Operand::Leaf(Node::Read(number as usize)));
    }
    if cursor.skip_word("anchor") {
        return Ok(match cursor.skip('[') {
            true => Operand::Leaf(Node::Anchor(list(cursor, index)?)),
            false => Operand::Anchor,
        });
    }
    let Token::Word(_) = cursor.token() else {
        return Err(cursor.wanted(WANTED));
    };
    let dtype = cursor.dtype()?;
    let tensor = tensor::read(cursor, dtype, &mut 0)?;
    Ok(Operand::Leaf(Node::Scalar(tensor)))
}

/// Whether a word of this letter and digits is here.
fn is_numbered(cursor: &Cursor<'_>, letter: char) -> bool {
    let word = cursor.token().word().unwrap_or_default();
    word.strip_prefix(letter)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The nodes of an output: first every leaf once, as it is first read, then what applies operators,
/// the first of them number `first`. `None` where numbers are others, indices may overflow, or what
/// is stored is not the last node.
fn nodes(
    applied: Vec<(Op, Vec<Operand>)>,
    last: Operand,
    first: Option<usize>,
    domain: &[usize],
) -> Option<Vec<Node>> {
    let mut leaves: Vec<Node> = Vec::new();
    let mut position = |operand: Operand| {
        let leaf = match operand {
            Operand::Node(number) => return Some(number),
            Operand::Anchor => Node::Anchor(Index::identity(domain)),
            Operand::Leaf(leaf) => leaf,
        };
        if let Node::Anchor(index) = &leaf
            && !index.iter().all(|index| access::reaches(index, domain))
        {
            return None;
        }
        let known = leaves.iter().position(|own| *own == leaf);
        Some(known.unwrap_or_else(|| {
            leaves.push(leaf);
            leaves.len() - 1
        }))
    };
    let mut nodes = Vec::with_capacity(applied.len());
    for (op, operands) in applied {
        let operands = operands.into_iter().map(&mut position);
        nodes.push(Node::Apply(op, operands.collect::<Option<_>>()?));
    }
    let stored = position(last)?;
    let counted = first.is_none_or(|first| first == leaves.len());
    leaves.append(&mut nodes);
    (counted && stored + 1 == leaves.len()).then_some(leaves)
}

fn extents_of(tensor: &Tensor) -> Extents {
    let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
    Extents { dtype, shape }
}

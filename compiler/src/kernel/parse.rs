//! Reads kernels from text; the grammar is in the card of [`super::print`].
//!
//! Takes text that may be hostile, gives kernels that [`super::verify()`] has yet to check, or the
//! first place that is wrong. It neither panics, nor recurses deeper than a limit, nor allocates
//! more than a multiple of the text. Never repairs anything.

use crate::graph::text::ParseError;
use crate::graph::text::cursor::{Cursor, Token};
use crate::kernel::{
    Binary, Branch, Buffer, BufferId, Builtin, Carried, ChunkCopy, Constant, Expression, Half,
    Kernel, Loop, MatrixLoad, Memory, Scalar, Shared, SharedId, Statement, Type, Unary, Value,
};

/// No block lies in more blocks than this.
const DEPTH_MAX: usize = 64;

/// Reads one kernel.
///
/// # Errors
/// The first place where the text leaves the grammar.
pub fn parse(text: &str) -> Result<Kernel, ParseError> {
    let mut cursor = Cursor::new(text);
    let kernel = head(&mut cursor)?;
    let mut parser = Parser {
        cursor,
        kernel,
        types: Vec::new(),
        values_max: text.len(),
        depth: 0,
    };
    parser.memories()?;
    let mut body = Vec::new();
    while !parser.cursor.skip('}') {
        body.push(parser.statement()?);
    }
    parser.kernel.body = body;
    let types = parser.types.into_iter();
    // What nothing defines has no type: the verifier refuses its use.
    let types = types.map(|ty| ty.unwrap_or(Type::one(Scalar::Bool)));
    parser.kernel.types = types.collect();
    match parser.cursor.token() {
        Token::End => Ok(parser.kernel),
        _ => Err(parser.cursor.wanted("the end after one kernel")),
    }
}

fn head(cursor: &mut Cursor<'_>) -> Result<Kernel, ParseError> {
    cursor.keyword("kernel", "`kernel`")?;
    let name = cursor.word("the name of the kernel")?.to_owned();
    cursor.keyword("invocations", "`invocations`")?;
    let invocations = cursor.number("a number of invocations")?;
    cursor.keyword("grid", "`grid`")?;
    let mut grid = [0; 3];
    for groups in &mut grid {
        *groups = cursor.number("a number of workgroups along each of three axes")?;
    }
    let mut comment = Vec::new();
    while cursor.skip_word("about") {
        comment.push(cursor.string("a line in quotes")?);
    }
    cursor.expect('{', "`about` or `{`")?;
    Ok(Kernel {
        name,
        comment,
        invocations,
        grid,
        buffers: Vec::new(),
        shared: Vec::new(),
        body: Vec::new(),
        types: Vec::new(),
    })
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    kernel: Kernel,
    /// By value: the type that is written, if one was.
    types: Vec<Option<Type>>,
    /// Values are numbered below this.
    values_max: usize,
    depth: usize,
}

impl Parser<'_> {
    fn memories(&mut self) -> Result<(), ParseError> {
        loop {
            let (mark, count) = match self.cursor.token() {
                Token::Word("buffer") => ('$', self.kernel.buffers.len()),
                Token::Word("shared") => ('@', self.kernel.shared.len()),
                _ => return Ok(()),
            };
            self.cursor.advance();
            self.cursor
                .expect(mark, "`$` of a buffer or `@` of shared memory")?;
            let start = self.cursor.wanted("memories numbered in order");
            if self.cursor.number::<usize>("the number of the memory")? != count {
                return Err(start);
            }
            let name = self.cursor.word("the name of the memory")?.to_owned();
            self.cursor.expect(':', "`:`")?;
            let element = self.ty()?;
            self.cursor.expect('[', "`[`")?;
            let elements = self.cursor.number("a number of elements")?;
            self.cursor.expect(']', "`]`")?;
            match mark {
                '$' => {
                    let written = self.cursor.skip_word("written");
                    self.kernel.buffers.push(Buffer {
                        name,
                        element,
                        elements,
                        written,
                    });
                }
                _ => {
                    let over = match self.cursor.skip_word("over") {
                        true => Some(self.shared()?),
                        false => None,
                    };
                    self.kernel.shared.push(Shared {
                        name,
                        element,
                        elements,
                        over,
                    });
                }
            }
        }
    }

    fn ty(&mut self) -> Result<Type, ParseError> {
        let wanted = "a type such as i32 or f32x4";
        self.cursor
            .read(wanted, |token| Type::from_name(token.word()?))
    }

    fn value(&mut self) -> Result<Value, ParseError> {
        self.cursor
            .read("a value such as %7", |token| token.value().map(Value))
    }

    /// The value here, which the statement defines.
    fn target(&mut self) -> Result<Value, ParseError> {
        const WANTED: &str = "a value whose number is below the length of the text";
        let error = self.cursor.wanted(WANTED);
        let value = self.value()?;
        match (value.0 as usize) < self.values_max {
            true => Ok(value),
            false => Err(error),
        }
    }

    /// The value whose text began at `start` has that type.
    fn define(&mut self, start: usize, value: Value, ty: Type) -> Result<(), ParseError> {
        let number = value.0 as usize;
        if self.types.len() <= number {
            self.types.resize(number + 1, None);
        }
        match self.types[number].replace(ty) {
            Some(before) if before != ty => {
                let wanted = "a value that has no other type elsewhere";
                Err(self.cursor.wanted_at(start, wanted))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// `value ":" type "="`.
    fn typed(&mut self) -> Result<(Value, Type), ParseError> {
        let start = self.cursor.start();
        let value = self.target()?;
        self.cursor.expect(':', "`:`")?;
        let ty = self.ty()?;
        self.cursor.expect('=', "`=`")?;
        self.define(start, value, ty)?;
        Ok((value, ty))
    }

    fn block(&mut self) -> Result<Vec<Statement>, ParseError> {
        if self.depth == DEPTH_MAX {
            return Err(self.cursor.wanted("at most 64 blocks around a statement"));
        }
        self.cursor.expect('{', "`{`")?;
        self.depth += 1;
        let mut block = Vec::new();
        while !self.cursor.skip('}') {
            block.push(self.statement()?);
        }
        self.depth -= 1;
        Ok(block)
    }

    fn statement(&mut self) -> Result<Statement, ParseError> {
        match self.cursor.token() {
            Token::Value(_) => {
                let (value, ty) = self.typed()?;
                Ok(Statement::Let(value, self.expression(ty)?))
            }
            Token::Word("store") => {
                self.cursor.advance();
                let (memory, index) = self.access()?;
                self.cursor.expect('=', "`=`")?;
                let value = self.value()?;
                Ok(Statement::Store {
                    memory,
                    index,
                    value,
                })
            }
            Token::Word("barrier") => {
                self.cursor.advance();
                Ok(Statement::Barrier)
            }
            Token::Word("copy") => self.copy(),
            Token::Word("commit") => {
                self.cursor.advance();
                Ok(Statement::Commit)
            }
            Token::Word("wait") => {
                self.cursor.advance();
                Ok(Statement::Wait(self.cursor.number("a number of groups")?))
            }
            Token::Word("if") => self.branch(),
            Token::Word("for") => self.repeat(),
            _ => Err(self.cursor.wanted("a statement or `}`")),
        }
    }

    fn copy(&mut self) -> Result<Statement, ParseError> {
        self.cursor.advance();
        let shared = self.shared()?;
        let place = self.index()?;
        self.cursor.expect('=', "`=`")?;
        self.cursor.expect('$', "`$` of a buffer")?;
        let buffer = BufferId(self.cursor.number("the number of a buffer")?);
        let index = self.index()?;
        self.cursor.keyword("where", "`where`")?;
        Ok(Statement::Copy(ChunkCopy {
            shared,
            place,
            buffer,
            index,
            holds: self.value()?,
        }))
    }

    fn shared(&mut self) -> Result<SharedId, ParseError> {
        self.cursor.expect('@', "`@` of shared memory")?;
        let number = self.cursor.number("the number of a shared memory")?;
        Ok(SharedId(number))
    }

    /// `"[" value "]"`.
    fn index(&mut self) -> Result<Value, ParseError> {
        self.cursor.expect('[', "`[`")?;
        let index = self.value()?;
        self.cursor.expect(']', "`]`")?;
        Ok(index)
    }

    fn branch(&mut self) -> Result<Statement, ParseError> {
        self.cursor.advance();
        let condition = self.value()?;
        let then = self.block()?;
        let otherwise = match self.cursor.skip_word("else") {
            true => self.block()?,
            false => Vec::new(),
        };
        let mut results = Vec::new();
        let mut more = self.cursor.skip_word("gives");
        while more {
            let (value, _) = self.typed()?;
            let yes = self.value()?;
            self.cursor.keyword("else", "`else`")?;
            results.push((value, yes, self.value()?));
            more = self.cursor.skip(',');
        }
        Ok(Statement::If(Branch {
            condition,
            then,
            otherwise,
            results,
        }))
    }

    fn repeat(&mut self) -> Result<Statement, ParseError> {
        self.cursor.advance();
        let start = self.cursor.start();
        let counter = self.target()?;
        self.define(start, counter, Type::one(Scalar::I32))?;
        self.cursor.expect('=', "`=`")?;
        let start = self.value()?;
        self.cursor.keyword("to", "`to`")?;
        let end = self.value()?;
        self.cursor.keyword("step", "`step`")?;
        let step = self.signed("a step")?;
        let mut carried = Vec::new();
        let mut more = self.cursor.skip_word("carry");
        while more {
            let (value, ty) = self.typed()?;
            let initial = self.value()?;
            self.cursor.keyword("next", "`next`")?;
            let next = self.value()?;
            self.cursor.keyword("left", "`left`")?;
            let start = self.cursor.start();
            let result = self.target()?;
            self.define(start, result, ty)?;
            carried.push(Carried {
                initial,
                value,
                next,
                result,
            });
            more = self.cursor.skip(',');
        }
        let body = self.block()?;
        Ok(Statement::For(Loop {
            counter,
            start,
            end,
            step,
            carried,
            body,
        }))
    }

    fn access(&mut self) -> Result<(Memory, Value), ParseError> {
        const WANTED: &str = "a memory such as $0 or @0";
        let is_buffer = self.cursor.skip('$');
        if !is_buffer {
            self.cursor.expect('@', WANTED)?;
        }
        let number = self.cursor.number(WANTED)?;
        let memory = match is_buffer {
            true => Memory::Buffer(BufferId(number)),
            false => Memory::Shared(SharedId(number)),
        };
        Ok((memory, self.index()?))
    }

    fn signed(&mut self, wanted: &'static str) -> Result<i32, ParseError> {
        let sign = if self.cursor.skip('-') { "-" } else { "" };
        self.cursor.read(wanted, |token| {
            format!("{sign}{}", token.number()?).parse().ok()
        })
    }

    fn constant(&mut self, ty: Type) -> Result<Constant, ParseError> {
        const WANTED: &str = "a number of the type written before";
        match ty.scalar {
            Scalar::I32 => Ok(Constant::I32(self.signed(WANTED)?)),
            Scalar::U32 => Ok(Constant::U32(self.cursor.number(WANTED)?)),
            Scalar::F32 => self.float(WANTED),
            Scalar::Bool => match self.cursor.token() {
                Token::Word(word @ ("true" | "false")) => {
                    self.cursor.advance();
                    Ok(Constant::Bool(word == "true"))
                }
                _ => Err(self.cursor.wanted(WANTED)),
            },
            Scalar::F16 => Err(self.cursor.wanted("an expression of f16")),
        }
    }

    fn float(&mut self, wanted: &'static str) -> Result<Constant, ParseError> {
        let sign = if self.cursor.skip('-') { "-" } else { "" };
        let read = self.cursor.read(wanted, |token| match token {
            Token::Number(digits) => match digits.strip_prefix("0x") {
                Some(digits) if sign.is_empty() => {
                    u32::from_str_radix(digits, 16).ok().map(f32::from_bits)
                }
                Some(_) => None,
                None => format!("{sign}{digits}").parse().ok(),
            },
            Token::Word("inf") => format!("{sign}inf").parse().ok(),
            _ => None,
        })?;
        Ok(Constant::F32(read))
    }

    fn expression(&mut self, ty: Type) -> Result<Expression, ParseError> {
        let Token::Word(word) = self.cursor.token() else {
            return Ok(Expression::Constant(self.constant(ty)?));
        };
        if matches!(word, "true" | "false" | "inf") {
            return Ok(Expression::Constant(self.constant(ty)?));
        }
        let start = self.cursor.wanted("an expression");
        self.cursor.advance();
        if let Some(function) = Unary::from_name(word) {
            return Ok(Expression::Unary(function, self.value()?));
        }
        if let Some(function) = Binary::from_name(word) {
            let [a, b] = self.values()?;
            return Ok(Expression::Binary(function, a, b));
        }
        match word {
            "local" => Ok(Expression::Builtin(Builtin::Local)),
            "group" => {
                let axis = self.cursor.number("an axis of the grid")?;
                Ok(Expression::Builtin(Builtin::Group(axis)))
            }
            "fma" => self.values().map(|[a, b, c]| Expression::Fma(a, b, c)),
            "select" => self.values().map(|[a, b, c]| Expression::Select(a, b, c)),
            "convert" => Ok(Expression::Convert(ty.scalar, self.value()?)),
            "bits" => Ok(Expression::Bits(ty.scalar, self.value()?)),
            "splat" => Ok(Expression::Splat(self.value()?, ty.lanes)),
            "extract" => {
                let x = self.value()?;
                self.cursor.expect(',', "`,`")?;
                Ok(Expression::Extract(x, self.cursor.number("a lane")?))
            }
            "extract_at" => self
                .values()
                .map(|[x, lane]| Expression::ExtractAt(x, lane)),
            "compose" => {
                let mut lanes = vec![self.value()?];
                while self.cursor.skip(',') {
                    lanes.push(self.value()?);
                }
                Ok(Expression::Compose(lanes))
            }
            "unpack" => Ok(Expression::Unpack(self.value()?)),
            "pack" => Ok(Expression::Pack(self.value()?)),
            "mma" => {
                let wanted = self.cursor.wanted("f16 or bf16");
                let Token::Word(word) = self.cursor.token() else {
                    return Err(wanted);
                };
                let half = Half::from_name(word).ok_or(wanted)?;
                self.cursor.advance();
                let [a, b, c] = self.values()?;
                Ok(Expression::Mma(half, a, b, c))
            }
            "shuffle" => {
                let x = self.value()?;
                self.cursor.expect(',', "`,`")?;
                Ok(Expression::Shuffle(x, self.cursor.number("bits")?))
            }
            "load_matrix" => {
                let transposed = self.cursor.skip_word("transposed");
                let shared = self.shared()?;
                Ok(Expression::LoadMatrix(MatrixLoad {
                    count: ty.lanes,
                    transposed,
                    shared,
                    row: self.index()?,
                }))
            }
            "load" => {
                let (memory, index) = self.access()?;
                Ok(Expression::Load(memory, index))
            }
            _ => Err(start),
        }
    }

    /// Operands with commas between them.
    fn values<const N: usize>(&mut self) -> Result<[Value; N], ParseError> {
        let mut values = [Value(0); N];
        for (position, value) in values.iter_mut().enumerate() {
            if position > 0 {
                self.cursor.expect(',', "`,`")?;
            }
            *value = self.value()?;
        }
        Ok(values)
    }
}

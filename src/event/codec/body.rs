//! A record's body: read straight into the struct, or through the tree when the writer's schema isn't ours.

use std::io::{self, Read};

use apache_avro::from_value;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::Schema;

use super::{DecodeError, read};
use crate::event::registry::writer::WriterSchema;
use crate::event::schema::AvroRecord;

/// Reads the whole of `body`.
pub(super) fn read<R: AvroRecord>(writer: &WriterSchema, body: &[u8]) -> Result<R, DecodeError> {
    if writer.same_as_ours {
        return read::read(body);
    }
    let mut bytes = Bytes { left: body, overrun: false };
    let record = resolve(writer, &mut bytes);
    // The tree reader takes the end of the bytes for a null; only the bytes themselves know that they ended.
    if bytes.overrun {
        return Err(DecodeError::Truncated);
    }
    match record {
        Err(error) => Err(DecodeError::Invalid(short(&error))),
        Ok(_) if !bytes.left.is_empty() => Err(DecodeError::TrailingBytes(bytes.left.len())),
        Ok(record) => Ok(record),
    }
}

/// Avro's schema resolution: older, newer and otherwise compatible writers.
fn resolve<R: AvroRecord>(writer: &WriterSchema, bytes: &mut Bytes<'_>) -> Result<R, apache_avro::Error> {
    let schemata: Vec<&Schema> = writer.referenced.iter().chain([&writer.avro]).collect();
    let reader = GenericDatumReader::builder(&writer.avro)
        .writer_schemata(schemata)?
        .reader_schema(R::schema().avro())
        .build()?;
    from_value(&reader.read_value(bytes)?)
}

/// The first part of an error's text: Avro's errors may hold whole schemas.
fn short(error: &apache_avro::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The bytes that are left, and whether more were wanted than there are.
struct Bytes<'a> {
    left: &'a [u8],
    overrun: bool,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let taken = self.left.read(buf)?;
        self.overrun |= taken < buf.len();
        Ok(taken)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.overrun |= self.left.len() < buf.len();
        self.left.read_exact(buf)
    }
}

//! Two readers that share no line see the same graph: the hand-declared messages, and those that
//! another library generated from the format's definition.

use std::fs;
use std::path::Path;

use onnx_protobuf as other;
use other::Message as _;
use prost::Message as _;

use super::proto::*;

#[test]
fn both_readers_see_the_same_graph() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    for export in ["onnx_torchscript", "onnx_dynamo"] {
        for component in ["unet", "text_encoder", "vae_decoder", "vae_encoder"] {
            let path = golden.join(export).join(component).join("model.onnx");
            let bytes = fs::read(&path).expect("a golden file can be read");
            let wanted = other::ModelProto::parse_from_bytes(&bytes).expect("the other reads it");
            let found = ModelProto::decode(bytes::Bytes::from(bytes)).expect("it decodes");
            same_model(&found, &wanted);
        }
    }
}

fn same_model(found: &ModelProto, wanted: &other::ModelProto) {
    assert_eq!(found.ir_version, wanted.ir_version);
    for (a, b) in found.opset_import.iter().zip(&wanted.opset_import) {
        assert_eq!((&a.domain, a.version), (&b.domain, b.version));
    }
    same_graph(found.graph.as_ref().expect("it has a graph"), &wanted.graph);
    assert_eq!(found.functions.len(), wanted.functions.len());
}

fn same_graph(found: &GraphProto, wanted: &other::GraphProto) {
    assert_eq!(found.name, wanted.name);
    assert_eq!(found.node.len(), wanted.node.len());
    for (a, b) in found.node.iter().zip(&wanted.node) {
        assert_eq!(
            (&a.name, &a.op_type, &a.domain),
            (&b.name, &b.op_type, &b.domain)
        );
        assert_eq!((&a.input, &a.output), (&b.input, &b.output));
        assert_eq!(a.attribute.len(), b.attribute.len());
        a.attribute
            .iter()
            .zip(&b.attribute)
            .for_each(|(a, b)| same_attribute(a, b));
    }
    assert_eq!(found.initializer.len(), wanted.initializer.len());
    found
        .initializer
        .iter()
        .zip(&wanted.initializer)
        .for_each(|(a, b)| same_tensor(a, b));
    same_values(&found.input, &wanted.input);
    same_values(&found.output, &wanted.output);
}

fn same_attribute(found: &AttributeProto, wanted: &other::AttributeProto) {
    assert_eq!(found.name, wanted.name);
    assert_eq!(found.kind, wanted.type_.value());
    assert_eq!(found.f.unwrap_or_default(), wanted.f);
    assert_eq!(found.i.unwrap_or_default(), wanted.i);
    assert_eq!(found.s.clone().unwrap_or_default(), wanted.s);
    assert_eq!((&found.floats, &found.ints), (&wanted.floats, &wanted.ints));
    assert_eq!(found.strings.len(), wanted.strings.len());
    match (&found.t, wanted.t.as_ref()) {
        (Some(a), Some(b)) => same_tensor(a, b),
        (a, b) => assert_eq!(a.is_some(), b.is_some()),
    }
    match (&found.g, wanted.g.as_ref()) {
        (Some(a), Some(b)) => same_graph(a, b),
        (a, b) => assert_eq!(a.is_some(), b.is_some()),
    }
}

fn same_tensor(found: &TensorProto, wanted: &other::TensorProto) {
    assert_eq!((&found.name, &found.dims), (&wanted.name, &wanted.dims));
    assert_eq!(found.data_type, wanted.data_type);
    assert_eq!(found.raw_data.clone().unwrap_or_default(), wanted.raw_data);
    assert_eq!(
        (&found.float_data, &found.double_data),
        (&wanted.float_data, &wanted.double_data)
    );
    assert_eq!(
        (&found.int32_data, &found.int64_data),
        (&wanted.int32_data, &wanted.int64_data)
    );
    assert_eq!(found.data_location, wanted.data_location.value());
    assert_eq!(found.external_data.len(), wanted.external_data.len());
    for (a, b) in found.external_data.iter().zip(&wanted.external_data) {
        assert_eq!((&a.key, &a.value), (&b.key, &b.value));
    }
}

fn same_values(found: &[ValueInfoProto], wanted: &[other::ValueInfoProto]) {
    use other::tensor_shape_proto::dimension::Value as Extent;
    assert_eq!(found.len(), wanted.len());
    for (a, b) in found.iter().zip(wanted) {
        assert_eq!(a.name, b.name);
        let a = a
            .r#type
            .as_ref()
            .and_then(|ty| ty.tensor_type.as_ref())
            .expect("a tensor");
        let b = b.type_.tensor_type();
        assert_eq!(a.elem_type, b.elem_type);
        let a = a.shape.as_ref().expect("a shape");
        assert_eq!(a.dim.len(), b.shape.dim.len());
        for (a, b) in a.dim.iter().zip(&b.shape.dim) {
            let (value, name) = match &b.value {
                Some(Extent::DimValue(value)) => (Some(*value), None),
                Some(Extent::DimParam(name)) => (None, Some(name.clone())),
                Some(_) | None => (None, None),
            };
            assert_eq!((a.dim_value, &a.dim_param), (value, &name));
        }
    }
}

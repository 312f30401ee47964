//! Lists of what this cloud has none of. An error here stops clients that only wanted to look
//! (Terraform reads credit specifications on every refresh); an empty list does not.

/// A list that is always empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nothing {
    /// The name in the `Action` parameter.
    pub action: &'static str,
    /// The element that would hold the list.
    pub element: &'static str,
    /// The parameter that names things of the list, and the code for one that is not there; none
    /// where the things that it names are of another kind.
    pub id: Option<(&'static str, &'static str)>,
}

const fn none(action: &'static str, element: &'static str) -> Nothing {
    Nothing {
        action,
        element,
        id: None,
    }
}

const fn none_of(
    action: &'static str,
    element: &'static str,
    parameter: &'static str,
    not_found: &'static str,
) -> Nothing {
    Nothing {
        action,
        element,
        id: Some((parameter, not_found)),
    }
}

/// All of them, by name. One that gets a handler leaves this list.
#[rustfmt::skip]
pub const NOTHING: [Nothing; 20] = [
    none("DescribeAddressesAttribute", "addressSet"),
    none_of("DescribeCapacityReservations", "capacityReservationSet", "CapacityReservationId", "InvalidCapacityReservationId.NotFound"),
    none_of("DescribeConversionTasks", "conversionTasks", "ConversionTaskId", "InvalidConversionTaskId"),
    none_of("DescribeCustomerGateways", "customerGatewaySet", "CustomerGatewayId", "InvalidCustomerGatewayID.NotFound"),
    none_of("DescribeEgressOnlyInternetGateways", "egressOnlyInternetGatewaySet", "EgressOnlyInternetGatewayId", "InvalidEgressOnlyInternetGatewayId.NotFound"),
    none_of("DescribeFlowLogs", "flowLogSet", "FlowLogId", "InvalidFlowLogId.NotFound"),
    none_of("DescribeHosts", "hostSet", "HostId", "InvalidHostID.NotFound"),
    none_of("DescribeIamInstanceProfileAssociations", "iamInstanceProfileAssociationSet", "AssociationId", "InvalidAssociationID.NotFound"),
    none("DescribeInstanceCreditSpecifications", "instanceCreditSpecificationSet"),
    none_of("DescribeLaunchTemplates", "launchTemplates", "LaunchTemplateId", "InvalidLaunchTemplateId.NotFound"),
    none_of("DescribeNatGateways", "natGatewaySet", "NatGatewayId", "NatGatewayNotFound"),
    none_of("DescribePlacementGroups", "placementGroupSet", "GroupName", "InvalidPlacementGroup.Unknown"),
    none_of("DescribeReservedInstances", "reservedInstancesSet", "ReservedInstancesId", "InvalidReservedInstancesId"),
    none("DescribeReservedInstancesOfferings", "reservedInstancesOfferingsSet"),
    none_of("DescribeSnapshots", "snapshotSet", "SnapshotId", "InvalidSnapshot.NotFound"),
    none_of("DescribeSpotInstanceRequests", "spotInstanceRequestSet", "SpotInstanceRequestId", "InvalidSpotInstanceRequestID.NotFound"),
    none_of("DescribeVpcEndpoints", "vpcEndpointSet", "VpcEndpointId", "InvalidVpcEndpointId.NotFound"),
    none_of("DescribeVpcPeeringConnections", "vpcPeeringConnectionSet", "VpcPeeringConnectionId", "InvalidVpcPeeringConnectionID.NotFound"),
    none_of("DescribeVpnConnections", "vpnConnectionSet", "VpnConnectionId", "InvalidVpnConnectionID.NotFound"),
    none_of("DescribeVpnGateways", "vpnGatewaySet", "VpnGatewayId", "InvalidVpnGatewayID.NotFound"),
];

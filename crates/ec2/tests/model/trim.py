#!/usr/bin/env python3
"""Makes ec2.json and actions.txt from botocore's model of EC2.

    pip download --no-deps botocore && unzip botocore-*.whl 'botocore/data/ec2/*'
    ./trim.py botocore/data/ec2/2016-11-15/service-2.json.gz

ec2.json holds what the test needs of the actions that we implement (ACTIONS below): shapes with
their members' names on the wire, one shape a line, no documentation. actions.txt names every action.

botocore is Copyright Amazon.com, Inc. or its affiliates and licensed under the Apache License 2.0;
the two files are derived from it under that licence.
"""
import gzip
import json
import sys
from pathlib import Path

ACTIONS = """
AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress BundleInstance CancelBundleTask CopyImage CreateKeyPair CreateSecurityGroup CreateTags
CreateVolume DeleteKeyPair DeleteSecurityGroup DeleteTags DeleteVolume DeregisterImage
DescribeAccountAttributes DescribeAddresses DescribeAvailabilityZones DescribeBundleTasks DescribeImageAttribute DescribeImages
DescribeInstanceAttribute DescribeInstanceStatus DescribeInstanceTypes DescribeInstances DescribeKeyPairs
DescribeNetworkInterfaces DescribeRegions DescribeSecurityGroups DescribeSubnets DescribeTags
DescribeVolumeStatus DescribeVolumes DescribeVpcAttribute DescribeVpcs DisableImageDeprecation EnableImageDeprecation GetConsoleOutput ImportKeyPair
ModifyImageAttribute ModifyInstanceAttribute RebootInstances RegisterImage ResetImageAttribute
RevokeSecurityGroupEgress RevokeSecurityGroupIngress RunInstances TerminateInstances
""".split()

model = json.load(gzip.open(sys.argv[1]))
here = Path(__file__).parent


def trimmed(shape):
    kept = {"type": shape["type"]}
    if "members" in shape:
        kept["members"] = {
            name: {key: member[key] for key in ("shape", "locationName", "queryName") if key in member}
            for name, member in shape["members"].items()
        }
    if "member" in shape:
        kept["member"] = {key: shape["member"][key] for key in ("shape", "locationName") if key in shape["member"]}
    return kept


def reach(name, shapes):
    if name in shapes:
        return
    shapes[name] = trimmed(model["shapes"][name])
    for member in [*shapes[name].get("members", {}).values(), *filter(None, [shapes[name].get("member")])]:
        reach(member["shape"], shapes)


# Lists that are always empty here: the elements that hold lists are all that is kept of them.
NOTHING = """
DescribeAddressesAttribute DescribeCapacityReservations DescribeConversionTasks
DescribeCustomerGateways DescribeEgressOnlyInternetGateways DescribeFlowLogs DescribeHosts
DescribeIamInstanceProfileAssociations DescribeInstanceCreditSpecifications DescribeLaunchTemplates
DescribeNatGateways DescribePlacementGroups DescribeReservedInstances DescribeReservedInstancesOfferings
DescribeSnapshots DescribeSpotInstanceRequests DescribeVpcEndpoints DescribeVpcPeeringConnections
DescribeVpnConnections DescribeVpnGateways
""".split()


def elements(action):
    members = model["shapes"][model["operations"][action]["output"]["shape"]]["members"]
    lists = [(name, m) for name, m in members.items() if model["shapes"][m["shape"]]["type"] == "list"]
    return [m.get("locationName", name) for name, m in lists]


shapes, operations = {}, {}
for action in ACTIONS:
    operation = model["operations"][action]
    operations[action] = {side: operation[side]["shape"] for side in ("input", "output") if side in operation}
    for shape in operations[action].values():
        reach(shape, shapes)


def lines(entries):
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(entries[name], sort_keys=True)}" for name in sorted(entries))


version = model["metadata"]["apiVersion"]
(here / "ec2.json").write_text(
    f'{{"source": "botocore, EC2 {version}, Apache-2.0; made by trim.py",\n'
    f'"operations": {{\n{lines(operations)}\n}},\n"nothing": {{\n{lines({a: elements(a) for a in NOTHING})}\n}},\n"shapes": {{\n{lines(shapes)}\n}}}}\n'
)
(here / "actions.txt").write_text("".join(f"{action}\n" for action in sorted(model["operations"])))

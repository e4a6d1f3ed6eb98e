/// The name of the client pod in a draft.
pub(super) const POD: &str = "shiftcheck-client";

/// The manifest of the client pod.
pub(super) const MANIFEST: &str = "\
# The client pod: it is idle until shiftcheck starts the traffic driver in it.
apiVersion: v1
kind: Pod
metadata:
  name: shiftcheck-client
  labels: {app: shiftcheck-client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: shiftcheck-client
      # a throwaway cluster has this image; for your own cluster, `shiftcheck image client.tar` writes it as an archive
      image: shiftcheck-client:1
      imagePullPolicy: IfNotPresent
      # without a request, the servers and sidecars of a busy node leave the driver too little CPU time, which looks like slow answers
      resources: {requests: {cpu: 100m}}
";

/// The name of the drafted client's pod.
pub(super) const POD: &str = "shiftcheck-client";

/// The manifest of a client that holds the driver.
pub(super) const MANIFEST: &str = "\
# The client from which the traffic comes: it idles, and the traffic driver is started in it.
apiVersion: v1
kind: Pod
metadata:
  name: shiftcheck-client
  labels: {app: shiftcheck-client}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: shiftcheck-client
      # comes along on a throwaway cluster; for an own one, `shiftcheck image client.tar` writes it as an archive
      image: shiftcheck-client:1
      imagePullPolicy: IfNotPresent
";

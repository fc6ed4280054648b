{{/* Pods that are not healthy can always be evicted: a broken rollout must not block a node's drain. */}}
{{- define "elf-team.podDisruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable | int }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "elf-team.selectorLabels" . | nindent 6 }}
{{- end -}}

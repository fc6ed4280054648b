{{/* Where pods go: over nodes and zones as far as there are any, and away from a node that is out of reach. */}}
{{- define "elf-team.scheduling" -}}
{{- with .Values.scheduling.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.scheduling.nodeSelector }}
nodeSelector:
  {{- range $key, $value := . }}
  {{ $key | quote }}: {{ $value | quote }}
  {{- end }}
{{- end }}
tolerations:
  {{- range list "not-ready" "unreachable" }}
  - key: node.kubernetes.io/{{ . }}
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $.Values.scheduling.unreachableSeconds | int }}
  {{- end }}
  {{- include "elf-team.literals" .Values.scheduling.tolerations | nindent 2 }}
affinity:
  podAntiAffinity:
    {{- if eq .Values.scheduling.antiAffinity "required" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - {{- include "elf-team.otherNode" . | nindent 8 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          {{- include "elf-team.otherNode" . | nindent 10 }}
    {{- end }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "elf-team.selectorLabels" $ | nindent 8 }}
    matchLabelKeys:
      - pod-template-hash
  {{- end }}
{{- end -}}

{{- define "elf-team.otherNode" -}}
topologyKey: kubernetes.io/hostname
labelSelector:
  matchLabels:
    {{- include "elf-team.selectorLabels" . | nindent 4 }}
# Pods of the release before do not count: they go.
matchLabelKeys:
  - pod-template-hash
{{- end -}}

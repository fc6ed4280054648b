{{/*
Hosts by their names, as Cilium's DNS proxy has seen them resolved; and the API server, which Cilium knows as such and
not by its address. It adds to the NetworkPolicy: what either of them allows is allowed.
*/}}
{{- define "elf-team.ciliumNetworkPolicy" -}}
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  {{- include "elf-team.metadata" (dict "root" . "name" (include "elf-team.name" .)) | nindent 2 }}
spec:
  endpointSelector:
    matchLabels:
      {{- include "elf-team.selectorLabels" . | nindent 6 }}
  egress:
    {{- range .Values.networkPolicy.egress.dns.pods }}
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: {{ .namespace | quote }}
            {{- range $key, $value := .labels }}
            {{ printf "k8s:%s" $key | quote }}: {{ $value | quote }}
            {{- end }}
      toPorts:
        - ports:
            {{- range $.Values.networkPolicy.egress.dns.ports }}
            - port: {{ .port | quote }}
              protocol: {{ .protocol }}
            {{- end }}
          rules:
            dns:
              - matchPattern: "*"
    {{- end }}
    {{- with .Values.networkPolicy.egress.cilium }}
    {{- if .apiServer }}
    - toEntities:
        - kube-apiserver
    {{- end }}
    {{- range .hosts }}
    - toFQDNs:
        {{- if hasPrefix "*." .host }}
        - matchPattern: {{ .host | quote }}
        {{- else }}
        - matchName: {{ .host | quote }}
        {{- end }}
      toPorts:
        - ports:
            - port: {{ .port | quote }}
              protocol: TCP
    {{- end }}
    {{- end }}
{{- end -}}
